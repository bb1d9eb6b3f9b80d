// Command scheduler-oracle answers which nodes kube-scheduler's own filters accept for a pod.
//
// It holds a cluster in the scheduler's own cache, and runs the PreFilter and Filter plugins of the default profile
// through the scheduler's framework. One JSON document a line comes in, one goes out; protocol.go has their shapes.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"k8s.io/klog/v2"
)

func main() {
	klog.SetOutput(os.Stderr)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := serve(ctx, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "scheduler-oracle:", err)
		os.Exit(1)
	}
}

// serve answers questions until the input ends. A question that cannot be answered gets an answer with an error.
func serve(ctx context.Context, input io.Reader, output io.Writer) error {
	oracle, err := newOracle(ctx)
	if err != nil {
		return err
	}
	reader := bufio.NewReaderSize(input, 1<<20)
	writer := bufio.NewWriterSize(output, 1<<20)
	decoder := json.NewDecoder(reader)
	encoder := json.NewEncoder(writer)
	for {
		var question question
		if err := decoder.Decode(&question); err != nil {
			if errors.Is(err, io.EOF) {
				return writer.Flush()
			}
			return fmt.Errorf("reading a question: %w", err)
		}
		if err := encoder.Encode(oracle.answer(&question)); err != nil {
			return err
		}
		if err := writer.Flush(); err != nil {
			return err
		}
	}
}

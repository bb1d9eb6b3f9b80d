// Command status_judges reads objects, one a line as JSON, and says how those who wait for them read each: kstatus, Flux
// with health check expressions, and Argo CD's Lua with a script. The code that judges is theirs, not a copy of it.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	luajson "layeh.com/gopher-json"
)

// question is what there is to judge; expressions and script are optional.
type question struct {
	Object      json.RawMessage                  `json:"object"`
	Expressions *kustomize.HealthCheckExpressions `json:"expressions"`
	Script      string                           `json:"script"`
}

type answer struct {
	Kstatus string          `json:"kstatus"`
	Flux    string          `json:"flux,omitempty"`
	Argo    json.RawMessage `json:"argo,omitempty"`
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<22)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		judged, err := judge(lines.Bytes())
		if err == nil {
			err = out.Encode(judged)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func judge(line []byte) (*answer, error) {
	var asked question
	if err := json.Unmarshal(line, &asked); err != nil {
		return nil, err
	}
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(asked.Object); err != nil {
		return nil, err
	}
	found, err := status.Compute(object)
	if err != nil {
		return nil, err
	}
	judged := &answer{Kstatus: string(found.Status)}
	if asked.Expressions != nil {
		evaluator, err := cel.NewStatusEvaluator(asked.Expressions)
		if err != nil {
			return nil, err
		}
		read, err := evaluator.Evaluate(context.Background(), object)
		if err != nil {
			return nil, err
		}
		judged.Flux = string(read.Status)
	}
	if asked.Script != "" {
		judged.Argo, err = runLua(asked.Script, asked.Object)
	}
	return judged, err
}

// runLua runs a script with the libraries that Argo CD opens (os, of which it leaves three functions, is left out).
func runLua(script string, object json.RawMessage) (json.RawMessage, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable,
	} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			return nil, err
		}
	}
	value, err := luajson.Decode(state, object)
	if err != nil {
		return nil, err
	}
	state.SetGlobal("obj", value)
	if err := state.DoString(script); err != nil {
		return nil, err
	}
	return luajson.Encode(state.Get(-1))
}

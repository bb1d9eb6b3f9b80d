package main

import v1 "k8s.io/api/core/v1"

// question has exactly one of its first six fields.
type question struct {
	// Cluster replaces the state.
	Cluster *cluster `json:"cluster,omitempty"`
	// Ask asks which nodes are feasible for a pod that has none.
	Ask *v1.Pod `json:"ask,omitempty"`
	// Place asks the same, then counts the pod on a node, whatever the answer.
	Place *placement `json:"place,omitempty"`
	// Check takes a pod away, asks whether its node is feasible for it, and puts it back: "namespace/name".
	Check string `json:"check,omitempty"`
	// Remove takes a pod away for good: "namespace/name".
	Remove string `json:"remove,omitempty"`
	// Requests asks what the scheduler counts for a pod.
	Requests *v1.Pod `json:"requests,omitempty"`

	// Nodes limits Ask and Place to these nodes; absent means all of them.
	Nodes []string `json:"nodes,omitempty"`
}

type cluster struct {
	Nodes []*v1.Node `json:"nodes"`
	// Pods without a node, and finished ones, are left out, as the scheduler's cache leaves them out.
	Pods       []*v1.Pod       `json:"pods"`
	Namespaces []*v1.Namespace `json:"namespaces"`
}

type placement struct {
	Pod  *v1.Pod `json:"pod"`
	Node string  `json:"node"`
}

// answer has an error, or what was asked for.
type answer struct {
	Error string `json:"error,omitempty"`
	// Feasible are the names of the nodes that every filter accepts, sorted.
	Feasible []string `json:"feasible"`
	// Statuses say for the other nodes that were asked about "Plugin: reason".
	Statuses map[string]string `json:"statuses,omitempty"`
	// Accepted, after Place and Check, says whether the pod's own node is feasible.
	Accepted bool `json:"accepted"`
	// Requests are in milli-cores for cpu, bytes for memory and ephemeral-storage, counts for others.
	Requests map[string]int64 `json:"requests,omitempty"`
	// Nodes and Pods, after Cluster, are what the cache holds.
	Nodes int `json:"nodes,omitempty"`
	Pods  int `json:"pods,omitempty"`
}

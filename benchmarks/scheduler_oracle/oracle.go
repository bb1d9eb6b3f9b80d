package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/framework"
)

// oracle holds one cluster at a time.
type oracle struct {
	ctx       context.Context
	logger    klog.Logger
	framework framework.Framework
	cache     cache.Cache
	snapshot  *cache.Snapshot
	// endCluster ends the cache of the present cluster.
	endCluster context.CancelFunc
	// pods are those with a node, by "namespace/name".
	pods map[string]*v1.Pod
}

func newOracle(ctx context.Context) (*oracle, error) {
	result := &oracle{ctx: ctx, logger: klog.FromContext(ctx)}
	return result, result.reset(&cluster{})
}

func (o *oracle) answer(question *question) *answer {
	result, err := o.dispatch(question)
	if err != nil {
		return &answer{Error: err.Error()}
	}
	return result
}

func (o *oracle) dispatch(question *question) (*answer, error) {
	switch {
	case question.Cluster != nil:
		if err := o.reset(question.Cluster); err != nil {
			return nil, err
		}
		return &answer{Nodes: len(question.Cluster.Nodes), Pods: len(o.pods)}, nil
	case question.Ask != nil:
		return o.feasible(question.Ask, question.Nodes)
	case question.Place != nil:
		return o.place(question.Place, question.Nodes)
	case question.Check != "":
		return o.check(question.Check)
	case question.Remove != "":
		_, err := o.remove(question.Remove)
		return &answer{}, err
	case question.Requests != nil:
		return requests(question.Requests)
	}
	return nil, errors.New("nothing is asked")
}

// reset replaces the cluster. The framework is built anew as well: its plugins keep listers of the old namespaces.
func (o *oracle) reset(state *cluster) error {
	if o.endCluster != nil {
		o.endCluster()
	}
	ctx, cancel := context.WithCancel(o.ctx)
	snapshot := cache.NewEmptySnapshot()
	built, factory, err := newFramework(ctx, snapshot)
	if err != nil {
		cancel()
		return err
	}
	o.framework, o.snapshot, o.endCluster = built, snapshot, cancel
	o.cache = cache.New(ctx, nil, false)
	o.pods = make(map[string]*v1.Pod, len(state.Pods))
	namespaces := factory.Core().V1().Namespaces().Informer().GetIndexer()
	for _, namespace := range state.Namespaces {
		if err := namespaces.Add(namespace); err != nil {
			return fmt.Errorf("namespace %s: %w", namespace.Name, err)
		}
	}
	for _, node := range state.Nodes {
		o.cache.AddNode(o.logger, node)
	}
	for _, pod := range state.Pods {
		if pod.Spec.NodeName == "" || pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed {
			continue
		}
		if err := o.add(pod); err != nil {
			return err
		}
	}
	return nil
}

func key(pod *v1.Pod) string { return pod.Namespace + "/" + pod.Name }

func (o *oracle) add(pod *v1.Pod) error {
	if _, there := o.pods[key(pod)]; there {
		return fmt.Errorf("pod %s is there already", key(pod))
	}
	if pod.UID == "" {
		pod.UID = types.UID(key(pod))
	}
	if err := o.cache.AddPod(o.logger, pod); err != nil {
		return fmt.Errorf("pod %s: %w", key(pod), err)
	}
	o.pods[key(pod)] = pod
	return nil
}

func (o *oracle) remove(name string) (*v1.Pod, error) {
	pod, there := o.pods[name]
	if !there {
		return nil, fmt.Errorf("pod %s is on no node", name)
	}
	if err := o.cache.RemovePod(o.logger, pod); err != nil {
		return nil, fmt.Errorf("pod %s: %w", name, err)
	}
	delete(o.pods, name)
	return pod, nil
}

func (o *oracle) place(placement *placement, nodes []string) (*answer, error) {
	if placement.Pod == nil || placement.Node == "" {
		return nil, errors.New("place needs a pod and a node")
	}
	result, err := o.feasible(placement.Pod, nodes)
	if err != nil {
		return nil, err
	}
	result.Accepted = slices.Contains(result.Feasible, placement.Node)
	bound := placement.Pod.DeepCopy()
	bound.Spec.NodeName = placement.Node
	return result, o.add(bound)
}

func (o *oracle) check(name string) (*answer, error) {
	pod, err := o.remove(name)
	if err != nil {
		return nil, err
	}
	result, err := o.feasible(pod, []string{pod.Spec.NodeName})
	if addErr := o.add(pod); err == nil {
		err = addErr
	}
	if err != nil {
		return nil, err
	}
	result.Accepted = len(result.Feasible) == 1
	return result, nil
}

// feasible does what the scheduler's findNodesThatFitPod does, on all nodes rather than on enough of them, and without
// nominated pods, of which there are none.
// The name of the node that the pod already has plays no part.
func (o *oracle) feasible(pod *v1.Pod, names []string) (*answer, error) {
	if pod.UID == "" || pod.Spec.NodeName != "" {
		pod = pod.DeepCopy()
		pod.Spec.NodeName = ""
		pod.UID = types.UID(key(pod))
	}
	if err := o.cache.UpdateSnapshot(o.logger, o.snapshot); err != nil {
		return nil, err
	}
	nodes, err := o.nodes(names)
	if err != nil {
		return nil, err
	}
	result := &answer{Feasible: []string{}, Statuses: map[string]string{}}
	state := framework.NewCycleState()
	limit, status, _ := o.framework.RunPreFilterPlugins(o.ctx, state, pod)
	if !status.IsSuccess() {
		if !status.IsRejected() {
			return nil, status.AsError()
		}
		for _, node := range nodes {
			result.Statuses[node.Node().Name] = describe(status)
		}
		return result, nil
	}
	for _, node := range nodes {
		name := node.Node().Name
		if !limit.AllNodes() && !limit.NodeNames.Has(name) {
			result.Statuses[name] = "PreFilter: not among the nodes that the pod names"
			continue
		}
		status := o.framework.RunFilterPlugins(o.ctx, state, pod, node)
		switch {
		case status.IsSuccess():
			result.Feasible = append(result.Feasible, name)
		case status.IsRejected():
			result.Statuses[name] = describe(status)
		default:
			return nil, status.AsError()
		}
	}
	slices.Sort(result.Feasible)
	return result, nil
}

func (o *oracle) nodes(names []string) ([]fwk.NodeInfo, error) {
	if names == nil {
		return o.snapshot.NodeInfos().List()
	}
	result := make([]fwk.NodeInfo, 0, len(names))
	for _, name := range names {
		node, err := o.snapshot.NodeInfos().Get(name)
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", name, err)
		}
		result = append(result, node)
	}
	return result, nil
}

func describe(status *fwk.Status) string {
	return status.Plugin() + ": " + strings.Join(status.Reasons(), "; ")
}

// requests tells what a node's sum grows by when the pod is on it.
func requests(pod *v1.Pod) (*answer, error) {
	info, err := framework.NewPodInfo(pod)
	if err != nil {
		return nil, err
	}
	counted := info.CalculateResource().Resource
	result := &answer{Requests: map[string]int64{
		string(v1.ResourceCPU):              counted.GetMilliCPU(),
		string(v1.ResourceMemory):           counted.GetMemory(),
		string(v1.ResourceEphemeralStorage): counted.GetEphemeralStorage(),
	}}
	for name, amount := range counted.GetScalarResources() {
		result.Requests[string(name)] = amount
	}
	return result, nil
}

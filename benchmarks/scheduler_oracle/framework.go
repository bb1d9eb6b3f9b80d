package main

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/client-go/informers"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/latest"
	"k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/names"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodevolumelimits"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"k8s.io/kubernetes/pkg/scheduler/metrics"
)

// leftOut are plugins of the default profile that the oracle does without: dynamic resource allocation needs a
// tracker that runs, preemption is no filter.
var leftOut = []string{names.DynamicResources, names.DefaultPreemption}

// newFramework builds the default profile. Nothing is ever asked of an API server: the plugins' listers read the
// informers' stores, which are empty but for the namespaces that the caller adds.
func newFramework(ctx context.Context, snapshot *cache.Snapshot) (framework.Framework, informers.SharedInformerFactory, error) {
	metrics.Register()
	client, err := clientset.NewForConfig(&rest.Config{Host: "http://127.0.0.1:1"})
	if err != nil {
		return nil, nil, err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	profile, err := defaultProfile()
	if err != nil {
		return nil, nil, err
	}
	built, err := frameworkruntime.NewFramework(ctx, plugins.NewInTreeRegistry(), profile,
		frameworkruntime.WithClientSet(client),
		frameworkruntime.WithInformerFactory(factory),
		frameworkruntime.WithSnapshotSharedLister(snapshot),
		frameworkruntime.WithSharedCSIManager(nodevolumelimits.NewCSIManager(factory.Storage().V1().CSINodes().Lister())),
		frameworkruntime.WithWaitingPods(frameworkruntime.NewWaitingPodsMap()),
		frameworkruntime.WithPodsInPreBind(frameworkruntime.NewPodsInPreBindMap()),
		// The answers are small and many: goroutines for each would cost more than they save.
		frameworkruntime.WithParallelism(1),
	)
	if err != nil {
		return nil, nil, fmt.Errorf("building the framework: %w", err)
	}
	return built, factory, nil
}

func defaultProfile() (*config.KubeSchedulerProfile, error) {
	configuration, err := latest.Default()
	if err != nil {
		return nil, fmt.Errorf("the scheduler's default configuration: %w", err)
	}
	profile := &configuration.Profiles[0]
	enabled := &profile.Plugins.MultiPoint.Enabled
	*enabled = slices.DeleteFunc(*enabled, func(plugin config.Plugin) bool {
		return slices.Contains(leftOut, plugin.Name)
	})
	return profile, nil
}

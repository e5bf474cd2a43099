package main

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
)

// byAddress is the index of Pods by the addresses that they run at.
const byAddress = "address"

// podStore finds Pods where the informer keeps them.
type podStore struct {
	toolscache.Indexer
}

// watchPods keeps the addresses of all Pods, and reports whether they are known.
func watchPods(ctx context.Context, informers cache.Informers) (store podStore, synced func() bool, err error) {
	informer, err := informers.GetInformer(ctx, &corev1.Pod{}, cache.BlockUntilSynced(false))
	if err != nil {
		return podStore{}, nil, fmt.Errorf("watch Pods: %w", err)
	}
	if err := informer.AddIndexers(toolscache.Indexers{byAddress: addressesOf}); err != nil {
		return podStore{}, nil, fmt.Errorf("watch Pods: %w", err)
	}
	shared, ok := informer.(toolscache.SharedIndexInformer)
	if !ok {
		return podStore{}, nil, fmt.Errorf("the cache has no store of its own: %T", informer)
	}
	return podStore{shared.GetIndexer()}, informer.HasSynced, nil
}

// Namespaces implements identity.Pods.
func (s podStore) Namespaces(address netip.Addr) []string {
	found, err := s.ByIndex(byAddress, address.String())
	if err != nil {
		return nil
	}
	names := make([]string, 0, len(found))
	for _, item := range found {
		if pod, ok := item.(*corev1.Pod); ok {
			names = append(names, pod.Namespace)
		}
	}
	return names
}

// addressesOf are those that a Pod runs at; one that has ended may have left them to another.
func addressesOf(item any) ([]string, error) {
	pod, ok := item.(*corev1.Pod)
	if !ok || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return nil, nil
	}
	addresses := make([]string, 0, len(pod.Status.PodIPs))
	for _, ip := range pod.Status.PodIPs {
		if address, err := netip.ParseAddr(ip.IP); err == nil {
			addresses = append(addresses, address.Unmap().String())
		}
	}
	return addresses, nil
}

// leanPod is a transform of a cache. It keeps of a Pod whose it is and where it runs.
func leanPod(cached any) (any, error) {
	pod, ok := cached.(*corev1.Pod)
	if !ok {
		return cached, nil
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion},
		Status:     corev1.PodStatus{Phase: pod.Status.Phase, PodIPs: pod.Status.PodIPs},
	}, nil
}

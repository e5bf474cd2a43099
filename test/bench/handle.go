package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// decodeAlone is the least that a webhook for Pods does: it decodes the Pod, and allows it.
func decodeAlone(_ context.Context, r admission.Request) admission.Response {
	var pod corev1.Pod
	if err := json.Unmarshal(r.Object.Raw, &pod); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	return admission.Allowed("")
}

// admissions returns a function that admits the request once, after a look at
// whether the handler rewrites every container's image: what does not, is fast for nothing.
func admissions(ctx context.Context, h admission.Handler, r admission.Request, containers int) (func(), error) {
	response := h.Handle(ctx, r)
	if !response.Allowed {
		return nil, fmt.Errorf("the Pod is refused: %v", response.Result)
	}
	if want := fmt.Sprintf("Rewritten=%d", containers); response.AuditAnnotations["report"] != want {
		return nil, fmt.Errorf("the report is '%s', want '%s'", response.AuditAnnotations["report"], want)
	}
	return func() { h.Handle(ctx, r) }, nil
}

// usual is the Pod that is measured where its size does not matter.
const usual = 3

// admitting returns an admission of a Pod with as many containers into the world.
func admitting(ctx context.Context, w *world, containers int) (func(), error) {
	r, err := request(containers)
	if err != nil {
		return nil, err
	}
	return admissions(ctx, w.handler(), r, containers)
}

// handle measures the handler alone.
func handle(ctx context.Context, out *results) error {
	w, err := cluster(1000, false)
	if err != nil {
		return err
	}
	ours, err := admitting(ctx, w, usual)
	if err != nil {
		return err
	}
	r, err := request(usual)
	if err != nil {
		return err
	}
	c := compare(ours, func() { decodeAlone(ctx, r) })
	out.ratio("handle-time", c.times, 1.5)
	out.detailf("handle %v, decode alone %v, of a Pod of %d bytes", c.a, c.b, len(r.Object.Raw))
	out.ratio("handle-allocations", c.allocs, 1.5)
	return nil
}

// connectors measures whether the number of Connectors matters.
func connectors(ctx context.Context, out *results) error {
	for _, oneRegistry := range []bool{false, true} {
		var admit [2]func()
		for i, n := range []int{10, 10_000} {
			w, err := cluster(n, oneRegistry)
			if err != nil {
				return err
			}
			if admit[i], err = admitting(ctx, w, usual); err != nil {
				return err
			}
		}
		c := compare(admit[1], admit[0])
		if oneRegistry {
			out.note("connectors-10000-to-10-on-one-registry", c.times)
		} else {
			out.ratio("connectors-10000-to-10", c.times, 1.2)
		}
		out.detailf("handle with 10,000 Connectors %v, with 10 %v", c.a, c.b)
	}
	return nil
}

// containers measures whether what a container costs falls with their number.
func containers(ctx context.Context, out *results) error {
	const many = 50
	w, err := cluster(1000, false)
	if err != nil {
		return err
	}
	large, err := admitting(ctx, w, many)
	if err != nil {
		return err
	}
	small, err := admitting(ctx, w, 1)
	if err != nil {
		return err
	}
	c := compare(large, func() {
		for range many {
			small()
		}
	})
	out.ratio("container-of-50-to-of-1", c.times, 1)
	out.detailf("a container of 50 %v, of 1 %v", c.a/many, c.b/many)
	return nil
}

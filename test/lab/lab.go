// Package lab is a running test cluster, seen from inside of its node: the API
// server, the node's files, and the upstream registry with its switches.
//
// A program that uses it is started by `cluster exec -- PROGRAM`, which puts it
// into the node's namespaces and names the cluster in its environment. The
// demonstration and the tests on a cluster share it.
package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
)

// Lab is a running test cluster.
type Lab struct {
	// Client reads and writes objects, of Kubernetes and of Berth.
	Client client.Client
	// Clientset is for what Client has not: logs.
	Clientset kubernetes.Interface
	// Config reaches the API server as its administrator.
	Config *rest.Config

	program, state string
}

// Open connects to the cluster that the environment names.
func Open() (*Lab, error) {
	l := &Lab{program: os.Getenv("BERTH_CLUSTER"), state: os.Getenv("BERTH_CLUSTER_STATE")}
	if l.program == "" || l.state == "" {
		return nil, errors.New("BERTH_CLUSTER must name the program `cluster`, and BERTH_CLUSTER_STATE its state directory; run this through `make`")
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return nil, fmt.Errorf("find the API server: %w", err)
	}
	config.QPS, config.Burst = 200, 400
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	l.Config = config
	if l.Client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return nil, err
	}
	l.Clientset, err = kubernetes.NewForConfig(config)
	return l, err
}

// Apply applies manifests, as `kubectl apply --server-side` does, into the
// namespace where they name none.
func (l *Lab) Apply(ctx context.Context, namespace, manifests string) error {
	return each(namespace, manifests, func(o *unstructured.Unstructured) error {
		err := l.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.ForceOwnership, client.FieldOwner("lab"))
		if err != nil {
			return fmt.Errorf("apply %s '%s': %w", o.GetKind(), o.GetName(), err)
		}
		return nil
	})
}

// Delete deletes what manifests name, and waits until it is gone with all that it owns.
func (l *Lab) Delete(ctx context.Context, namespace, manifests string) error {
	return each(namespace, manifests, func(o *unstructured.Unstructured) error {
		if err := l.Client.Delete(ctx, o, client.PropagationPolicy("Foreground")); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete %s '%s': %w", o.GetKind(), o.GetName(), err)
		}
		return Wait(ctx, deleteLimit, o.GetKind()+" '"+o.GetName()+"' to go", func(ctx context.Context) (bool, error) {
			err := l.Client.Get(ctx, client.ObjectKeyFromObject(o), o)
			return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
		})
	})
}

const deleteLimit = 30 * time.Second

func each(namespace, manifests string, do func(*unstructured.Unstructured) error) error {
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(manifests), 4096)
	for {
		var o unstructured.Unstructured
		err := decoder.Decode(&o)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the manifest: %w", err)
		}
		if o.GetNamespace() == "" {
			o.SetNamespace(namespace)
		}
		if err := do(&o); err != nil {
			return err
		}
	}
}

// Wait asks until the condition holds, and says what was waited for where it does not in time.
func Wait(ctx context.Context, limit time.Duration, what string, condition func(context.Context) (bool, error)) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, limit, true, func(ctx context.Context) (bool, error) {
		ok, err := condition(ctx)
		if err != nil {
			last = err
		}
		return ok && err == nil, nil
	})
	if err != nil {
		return errors.Join(fmt.Errorf("wait %s for %s: %w", limit, what, err), last)
	}
	return nil
}

// Available waits for a Deployment.
func (l *Lab) Available(ctx context.Context, namespace, name string, limit time.Duration) error {
	return Wait(ctx, limit, "Deployment '"+namespace+"/"+name+"' to be Available", func(ctx context.Context) (bool, error) {
		var d appsv1.Deployment
		if err := l.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &d); err != nil {
			return false, err
		}
		for _, c := range d.Status.Conditions {
			if c.Type == appsv1.DeploymentAvailable && c.Status == corev1.ConditionTrue && d.Status.ObservedGeneration == d.Generation {
				return true, nil
			}
		}
		return false, nil
	})
}

// Pods returns those of a namespace.
func (l *Lab) Pods(ctx context.Context, namespace string) ([]corev1.Pod, error) {
	var list corev1.PodList
	err := l.Client.List(ctx, &list, client.InNamespace(namespace))
	return list.Items, err
}

// Events returns those of a namespace.
func (l *Lab) Events(ctx context.Context, namespace string) ([]corev1.Event, error) {
	var list corev1.EventList
	err := l.Client.List(ctx, &list, client.InNamespace(namespace))
	return list.Items, err
}

// EventLike waits for an event of a reason whose message contains a text.
func (l *Lab) EventLike(ctx context.Context, namespace, reason, text string, limit time.Duration) (found corev1.Event, err error) {
	err = Wait(ctx, limit, fmt.Sprintf("an event '%s' in '%s' that says '%s'", reason, namespace, text), func(ctx context.Context) (bool, error) {
		events, err := l.Events(ctx, namespace)
		for _, e := range events {
			if e.Reason == reason && strings.Contains(e.Message, text) {
				found = e
				return true, nil
			}
		}
		return false, err
	})
	return found, err
}

// Credential is the upstream's.
type Credential struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Address  string `json:"address"`
	CAFile   string `json:"caFile"`
}

// Credential returns what signs in to the upstream now.
func (l *Lab) Credential() (c Credential, err error) {
	text, err := os.ReadFile(filepath.Join(l.state, "harbor", "credentials.json"))
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(text, &c)
}

// HarborLog returns the upstream's access log so far.
func (l *Lab) HarborLog() (string, error) {
	text, err := os.ReadFile(filepath.Join(l.state, "log", "harbor.log"))
	return string(text), err
}

// Harbor runs `cluster harbor` with the arguments, and returns what it printed.
func (l *Lab) Harbor(ctx context.Context, args ...string) (string, error) {
	return l.cluster(ctx, append([]string{"harbor"}, args...)...)
}

// Restart ends a component of the cluster, such as 'kubelet', with SIGKILL, and starts it again.
func (l *Lab) Restart(ctx context.Context, component string) error {
	_, err := l.cluster(ctx, "restart", component)
	return err
}

func (l *Lab) cluster(ctx context.Context, args ...string) (string, error) {
	c := exec.CommandContext(ctx, l.program, append([]string{"--state", l.state}, args...)...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("cluster %s: %w: %s", strings.Join(args[:2], " "), err, errs.String())
	}
	return strings.TrimSpace(out.String()), nil
}

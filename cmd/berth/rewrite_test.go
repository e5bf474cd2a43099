package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api/v1alpha1"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"berth": main})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(farEnd())
	t.Cleanup(server.Close)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			file := filepath.Join(env.WorkDir, "kubeconfig")
			env.Setenv("KUBECONFIG_OF_TEST", file)
			return os.WriteFile(file, fmt.Appendf(nil, kubeconfig, server.URL), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"status": status},
	})
}

const kubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: %q}}]
users: [{name: test}]
contexts: [{name: test, context: {cluster: test, user: test}}]
current-context: test
`

// status runs berth, which must end with the given exit status.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: status STATUS ARGUMENT…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec("berth", args[1:]...)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("berth %s: exit status %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// farEnd answers as an API server does.
func farEnd() http.Handler {
	mux := http.NewServeMux()
	answer := func(pattern string, code int, object any) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			_ = json.NewEncoder(w).Encode(object)
		})
	}
	type o = map[string]any
	failure := func(code int, reason string) o {
		return o{"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": reason, "code": code, "message": reason}
	}
	namespace := func(name, inject string) o {
		return o{"apiVersion": "v1", "kind": "Namespace", "metadata": o{"name": name, "labels": o{"connectors.berth.dev/inject": inject}}}
	}
	answer("GET /apis/connectors.berth.dev/v1alpha1/connectors", http.StatusOK, o{
		"apiVersion": "connectors.berth.dev/v1alpha1", "kind": "ConnectorList",
		"items": []o{{
			"metadata": o{"name": "harbor", "namespace": "shop"},
			"spec":     o{"connectorClassName": "harbor", "address": "https://harbor.example.com", "access": []o{{"namespaces": o{"from": "All"}}}},
		}},
	})
	answer("GET /api/v1/namespaces/shop", http.StatusOK, namespace("shop", "enabled"))
	answer("GET /api/v1/namespaces/closed", http.StatusOK, namespace("closed", "disabled"))
	answer("GET /api/v1/namespaces/forbidden", http.StatusForbidden, failure(http.StatusForbidden, "Forbidden"))
	mux.HandleFunc("PATCH /api/v1/namespaces/shop", func(w http.ResponseWriter, r *http.Request) {
		var patch metav1.PartialObjectMetadata
		_ = json.NewDecoder(r.Body).Decode(&patch)
		w.Header().Set("Content-Type", "application/json")
		if patch.Annotations[v1alpha1.AnnotationTokenGeneration] == "" {
			w.WriteHeader(http.StatusBadRequest)
		}
		_ = json.NewEncoder(w).Encode(namespace("shop", "enabled"))
	})
	answer("/", http.StatusNotFound, failure(http.StatusNotFound, "NotFound"))
	return mux
}

// The examples of the help run as they are pasted, where no cluster is needed.
func TestExamples(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	ran := 0
	for line := range strings.SplitSeq(rewriteExample, "\n") {
		args, ok := strings.CutPrefix(strings.TrimSpace(line), "berth ")
		if !ok {
			continue
		}
		var out, warnings bytes.Buffer
		c := root()
		c.SetArgs(strings.Fields(args))
		c.SetIn(strings.NewReader(""))
		c.SetOut(&out)
		c.SetErr(io.MultiWriter(&warnings))
		if err := c.ExecuteContext(t.Context()); err != nil || warnings.Len() > 0 {
			t.Errorf("%s: %v\n%s", line, err, warnings.String())
		}
		if !strings.Contains(out.String(), "c-harbor.shop.svc.cluster.local/namespaces/shop/connectors/harbor/shop/web:v1") {
			t.Errorf("%s: nothing is rewritten:\n%s", line, out.String())
		}
		ran++
	}
	if ran == 0 {
		t.Error("the help has no example")
	}
}

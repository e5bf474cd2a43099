package api_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"berth.dev/berth/rewrite"
)

// notTaken are the scenes that the API server itself refuses, and what it says.
// With Berth it must say the same.
func notTaken() map[string]string {
	return map[string]string{
		"ephemeral-in-a-created-pod":        "spec.ephemeralContainers: Forbidden: cannot be set on create",
		"image-empty":                       "spec.containers[0].image: Required value",
		"localhost-registry":                "may not be loopback", // of its Connector
		"unparseable-white-space":           "must not have leading or trailing whitespace",
		"update-pull-secret-added-too-late": "pod updates may not change fields other than",
	}
}

// notCalled are the scenes of Pods for which the API server does not call Berth
// (`matchConditions`), so that nothing is said of what the command reports.
func notCalled() []string {
	return []string{"mirror-pod", "mirror-pod-of-no-hash", "mirror-pod-opted-in"}
}

// TestStoredAsRewritten: for every golden, what the API server stores is what
// `berth rewrite` writes for the same file, but for what the API server adds to
// any Pod; and what it warns of, puts on record or refuses is what the command
// reports. The command knows of no UPDATE: there the golden's own output stands
// in for it.
func TestStoredAsRewritten(t *testing.T) {
	st := &stage{world: enter(t)}
	st.dry, st.set, st.heard = st.listening()
	st.plain = st.namespace("goldens-plain").Name
	st.ok(st.client.Create(st.ctx, &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "nvidia"}, Handler: "nvidia"}))
	t.Cleanup(func() {
		w := st.world
		w.ctx = context.WithoutCancel(st.ctx)
		w.ok(w.only(nil))
		w.configure(configuration)
	})
	scenes := readScenes(t)
	older := st.createBefore(scenes)
	compared := 0
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			st.T, st.ctx = t, t.Context()
			if st.play(s, older) {
				compared++
			}
		})
		st.T, st.ctx = t, t.Context()
	}
	const most = 5
	if want := len(scenes) - len(notTaken()); compared < want || len(notTaken()) > most {
		t.Errorf("%d of %d scenes were compared, must be %d; %d may be left out", compared, len(scenes), want, most)
	}
	t.Logf("%d of %d scenes were compared", compared, len(scenes))
}

// play reports whether the scene was compared: it is not where the API server takes no part of it.
func (st *stage) play(s *scene, older string) (compared bool) {
	st.Helper()
	says, listed := notTaken()[s.name]
	if err := st.prepare(s); err != nil {
		if !listed || !strings.Contains(err.Error(), says) {
			st.Fatal(err)
		}
		return false
	}
	var with, without error
	if s.before == nil {
		with, without = st.created(s)
	} else {
		with, without = st.updated(s, older)
	}
	if !listed {
		st.ok(without)
		return true
	}
	for _, err := range []error{with, without} {
		if err == nil || !strings.Contains(err.Error(), says) {
			st.Errorf("the API server must say '%s': %v", says, err)
		}
	}
	return false
}

// created compares a Pod that is created, dry, with the command's. The errors
// are of the request with Berth, and of the one for the command's Pod without.
func (st *stage) created(s *scene) (with, without error) {
	st.Helper()
	want := st.command(s)
	plain, without := st.create(s.in(st.plain, want.pod))
	got, with := st.create(s.in(s.namespace.Name, s.pod))
	if without == nil {
		st.compare(s, got, with, want.with(plain.pod), "create", "")
	}
	return with, without
}

// with is the answer, with the Pod as the API server completes it.
func (a answer) with(pod *corev1.Pod) answer {
	a.pod = pod
	return a
}

// reply is what the API server makes of a request.
type reply struct {
	pod      *corev1.Pod
	warnings []string
}

func (st *stage) create(p *corev1.Pod) (reply, error) {
	st.Helper()
	st.heard.all = nil
	err := st.dry.Create(st.ctx, p, client.DryRunAll)
	return reply{p, st.heard.all}, err
}

// createBefore creates the Pods that scenes update, in the namespace before it
// is opted in, as Berth would not leave them, and returns its name.
func (st *stage) createBefore(scenes []*scene) (namespace string) {
	st.Helper()
	for _, s := range scenes {
		if s.before == nil {
			continue
		}
		if namespace == "" {
			namespace = s.namespace.Name
			st.ok(st.client.Create(st.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
		}
		if s.namespace.Name != namespace {
			st.Fatalf("%s: Pods that are updated must be in '%s'", s.name, namespace)
		}
		for _, in := range []string{namespace, st.plain} {
			p := s.in(in, s.before)
			p.Spec.EphemeralContainers = nil // added below, as the API server demands
			st.ok(st.client.Create(st.ctx, p))
			if debug := s.in(in, s.before); len(debug.Spec.EphemeralContainers) > 0 {
				_, err := st.clientset.CoreV1().Pods(in).UpdateEphemeralContainers(st.ctx, s.name, debug, metav1.UpdateOptions{})
				st.ok(err)
			}
		}
	}
	return namespace
}

// updated compares a Pod that is updated with what the golden records. The errors are as of created.
func (st *stage) updated(s *scene, namespace string) (with, without error) {
	st.Helper()
	want, err := s.recorded()
	st.ok(err)
	plain, without := st.update(s, s.in(st.plain, want.pod))
	st.heard.all = nil
	got, with := st.update(s, s.in(namespace, s.pod))
	if without != nil {
		return with, without
	}
	subresource := ""
	if debugs(s) {
		subresource = "ephemeralcontainers"
	}
	st.compare(s, reply{got, st.heard.all}, with, want.with(plain), "update", subresource)
	return with, nil
}

func debugs(s *scene) bool {
	return len(s.pod.Spec.EphemeralContainers) != len(s.before.Spec.EphemeralContainers)
}

// update writes what may change of a Pod, in the way that the scene asks for.
func (st *stage) update(s *scene, want *corev1.Pod) (*corev1.Pod, error) {
	st.Helper()
	pods := st.set.CoreV1().Pods(want.Namespace)
	if debugs(s) {
		return pods.UpdateEphemeralContainers(st.ctx, want.Name, want, metav1.UpdateOptions{})
	}
	return pods.Update(st.ctx, want, metav1.UpdateOptions{})
}

// compare compares what the API server made with what it should.
func (st *stage) compare(s *scene, got reply, err error, want answer, verb, subresource string) {
	st.Helper()
	record := st.event(verb, s.in(s.namespace.Name, s.pod), subresource)
	if want.refused != "" {
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), want.refused) {
			st.Errorf("must be refused: %s\ngot: %v", want.refused, err)
		}
		reason, _, _ := strings.Cut(want.refused, ":")
		st.equal("audit annotation", record.said("refused"), reason)
		return
	}
	st.ok(err)
	st.equal("Pod", bare(got.pod), bare(want.pod))
	if slices.Contains(notCalled(), s.name) {
		st.equal("calls, warnings and command's report", []any{record.rounds(), got.warnings, want.report}, []any{0, []string(nil), "MirrorPod=1"})
		return
	}
	st.equal("warnings", berths(got.warnings), want.warnings)
	st.equal("report", record.said("report")+record.said("report-again"), want.report)
}

// bare is a Pod without what tells one from another, and from its twin in another namespace.
func bare(p *corev1.Pod) *corev1.Pod {
	p = p.DeepCopy()
	p.Namespace, p.UID, p.ResourceVersion, p.CreationTimestamp, p.ManagedFields, p.Generation = "", "", "", metav1.Time{}, nil, 0
	return p
}

// berths are the warnings that are Berth's, among those of the API server itself.
func berths(all []string) (ours []string) {
	for _, text := range all {
		if reason, _, ok := strings.Cut(text, ": "); ok && rewrite.Reason(reason).Warns() {
			ours = append(ours, text)
		}
	}
	return ours
}

// command runs the real `berth rewrite` on the scene's file, as it is.
func (st *stage) command(s *scene) (a answer) {
	st.Helper()
	out, stderr, status := st.rewrite(s, "yaml")
	documents := strings.Split(out, "\n---\n")
	a.pod = &corev1.Pod{}
	st.ok(yaml.UnmarshalStrict([]byte(documents[len(documents)-1]), a.pod))
	report, _, reportStatus := st.rewrite(s, "report")
	st.equal("status with --output report", reportStatus, status)
	lines := told(report)
	if status == 1 {
		st.equal("lines of a refusal", len(lines), 1)
		a.refused = lines[0].refusal()
		return a
	}
	st.equal("status", status, 0)
	counts := counts{}
	for _, l := range lines {
		counts.add(l.skip(), &a.warnings)
	}
	a.report = counts.String()
	var printed []string
	for _, l := range told(stderr) {
		printed = append(printed, shortened(l.skip()))
	}
	st.equal("what the command prints beside the Pod", printed, a.warnings)
	return a
}

func (st *stage) rewrite(s *scene, output string) (stdout, stderr string, status int) {
	st.Helper()
	cmd := exec.CommandContext(st.ctx, os.Getenv(command), "rewrite", "--filename="+s.file, "--namespace="+s.namespace.Name,
		"--config="+st.path(configurationFile), "--output="+output)
	var out, errors bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errors
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		st.Fatal(err)
	}
	return out.String(), errors.String(), cmd.ProcessState.ExitCode()
}

// line is one of the command's report: 'FILE:LINE: document N: Pod/NAMESPACE/NAME: `FIELD`: …'.
type line struct{ field, text string }

func told(report string) (lines []line) {
	form := regexp.MustCompile("(?m)^.*?: document \\d+: Pod/[^ ]+: (?:`([^`]*)`: )?(.*)$")
	for _, match := range form.FindAllStringSubmatch(report, -1) {
		lines = append(lines, line{match[1], match[2]})
	}
	return lines
}

// skip is the line as package rewrite spells it: 'REASON: 'IMAGE' in `FIELD` …'.
func (l line) skip() string {
	if strings.Contains(l.text, " → ") {
		return "Rewritten: "
	}
	reason, rest, _ := strings.Cut(l.text, ": ")
	text := reason + ": "
	ofImage := strings.HasSuffix(l.field, "}.image") || strings.HasSuffix(l.field, "}.image.reference")
	if image := regexp.MustCompile(`^'[^']*' `).FindString(rest); image != "" && ofImage {
		text, rest = text+image+"in ", strings.TrimPrefix(rest, image)
	}
	if l.field != "" {
		text += "`" + l.field + "` "
	}
	return text + rest
}

func (l line) refusal() string {
	reason, rest, _ := strings.Cut(l.text, ": ")
	return fmt.Sprintf("%s: `%s`: %s", reason, l.field, rest)
}

// counts tells how often each reason was given.
type counts map[string]int

// add counts a skip, and notes it where it is a warning.
func (c counts) add(skip string, warnings *[]string) {
	reason, _, _ := strings.Cut(skip, ":")
	c[reason]++
	if rewrite.Reason(reason).Warns() {
		*warnings = append(*warnings, shortened(skip))
	}
}

// String is the audit annotation.
func (c counts) String() string {
	var parts []string
	for reason, n := range c {
		parts = append(parts, fmt.Sprintf("%s=%d", reason, n))
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// shortened is a text of at most 256 bytes, as the API server passes it on.
func shortened(text string) string {
	const most, ellipsis = 256, "…"
	if len(text) <= most {
		return text
	}
	end := most - len(ellipsis)
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + ellipsis
}

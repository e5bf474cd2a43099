package secret_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/route"
	"berth.dev/berth/secret"
)

const (
	found        = v1alpha1.ReasonFound
	notFound     = v1alpha1.ReasonSecretNotFound
	forbidden    = v1alpha1.ReasonSecretForbidden
	unreadable   = v1alpha1.ReasonSecretUnreadable
	testPassword = "password"
)

func connector(name string) route.Connector {
	return route.Connector{Namespace: "demo", Name: name}
}

func refusal() error {
	return apierrors.NewForbidden(corev1.Resource("secrets"), "login", nil)
}

func passing() error {
	return apierrors.NewInternalError(context.DeadlineExceeded)
}

func want(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.SortSlices(func(a, b route.Connector) bool { return a.Name < b.Name })); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestFollowSeesEachChange(t *testing.T) {
	t.Parallel()
	inCluster(t, func(t *testing.T, c *cluster) {
		c.Follow(connector("a"), key("login"))
		secrets := c.CoreV1().Secrets("demo")
		for _, step := range []struct {
			do   func() error
			want string
		}{
			{do: func() error { return nil }, want: notFound},
			{do: func() error {
				_, err := secrets.Create(t.Context(), object("login", map[string]string{testPassword: "1"}), metav1.CreateOptions{})
				return err
			}, want: found},
			{do: func() error {
				_, err := secrets.Update(t.Context(), object("login", map[string]string{testPassword: "2"}), metav1.UpdateOptions{})
				return err
			}, want: found},
			{do: func() error { return secrets.Delete(t.Context(), "login", metav1.DeleteOptions{}) }, want: notFound},
		} {
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
			want(t, "reported", []string{step.want}, c.reports("login"))
			want(t, "Get", step.want, c.reason(t, "login"))
			if s, err := c.Get(t.Context(), key("login")); err == nil {
				stored, err := secrets.Get(t.Context(), "login", metav1.GetOptions{})
				want(t, "password", stored.Data, s.Data)
				want(t, "error", nil, err)
			}
		}
	})
}

func TestFollowWatchesNothingElse(t *testing.T) {
	t.Parallel()
	inCluster(t, func(t *testing.T, c *cluster) {
		c.Follow(connector("a"), key("login"))
		want(t, "followed", found, c.reason(t, "login"))
		want(t, "not followed", notFound, c.reason(t, "other"))
		for _, action := range c.Actions() {
			if verb := action.GetVerb(); verb != "list" && verb != "watch" || action.GetNamespace() != "demo" {
				t.Errorf("the follower may not %s in '%s'", verb, action.GetNamespace())
			}
		}
		for name := range c.watches {
			want(t, "watched", "login", name)
		}
	}, object("login", nil), object("other", nil))
}

func TestGetWaitsForTheFirstAnswerAlone(t *testing.T) {
	t.Parallel()
	inCluster(t, func(t *testing.T, c *cluster) {
		c.answer(passing())
		c.Follow(connector("a"), key("login"))
		want(t, "no answer", unreadable, c.reason(t, "login"))
		c.answer(nil)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for range 100 { // a fair select would choose the end of the context for half of them
			if _, err := c.Get(ended, key("login")); err != nil {
				t.Fatal(err)
			}
		}
		c.answer(passing())
		want(t, "what was last seen stays", found, c.reason(t, "login"))
	}, object("login", nil))
}

func TestForbiddenThenAllowed(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		secrets []runtime.Object
		want    string
	}{
		"exists":         {secrets: []runtime.Object{object("login", nil)}, want: found},
		"does not exist": {want: notFound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inCluster(t, func(t *testing.T, c *cluster) {
				c.answer(refusal())
				c.Follow(connector("a"), key("login"))
				want(t, "refused", forbidden, c.reason(t, "login"))
				c.answer(passing())
				want(t, "a passing error", forbidden, c.reason(t, "login"))
				c.answer(nil)
				want(t, "allowed", tc.want, c.reason(t, "login"))
				// Nothing in between: until the Secret is read nobody may say that it does not exist.
				want(t, "reported", []string{forbidden, tc.want}, c.reports("login"))

				c.answer(refusal())
				want(t, "reported when refused again", []string{forbidden}, c.reports("login"))
				c.answer(nil)
				want(t, "reported when allowed again", []string{tc.want}, c.reports("login"))
			}, tc.secrets...)
		})
	}
}

func TestFollowInThePlaceOfWhatWasAskedBefore(t *testing.T) {
	t.Parallel()
	a, b := connector("a"), connector("b")
	login, other := key("login"), key("other")
	for name, tc := range map[string]struct {
		follow func(*cluster)
		want   map[string][]route.Connector
	}{
		"one":              {follow: func(c *cluster) { c.Follow(a, login) }, want: map[string][]route.Connector{"login": {a}}},
		"two Secrets":      {follow: func(c *cluster) { c.Follow(a, login, other) }, want: map[string][]route.Connector{"login": {a}, "other": {a}}},
		"another Secret":   {follow: func(c *cluster) { c.Follow(a, login); c.Follow(a, other) }, want: map[string][]route.Connector{"other": {a}}},
		"one Secret less":  {follow: func(c *cluster) { c.Follow(a, login, other); c.Follow(a, login) }, want: map[string][]route.Connector{"login": {a}}},
		"nothing more":     {follow: func(c *cluster) { c.Follow(a, login, other); c.Follow(a) }},
		"two owners":       {follow: func(c *cluster) { c.Follow(a, login); c.Follow(b, login) }, want: map[string][]route.Connector{"login": {a, b}}},
		"one owner left":   {follow: func(c *cluster) { c.Follow(a, login); c.Follow(b, login); c.Follow(a) }, want: map[string][]route.Connector{"login": {b}}},
		"no owner left":    {follow: func(c *cluster) { c.Follow(a, login); c.Follow(b, login); c.Follow(a); c.Follow(b) }},
		"same Secret":      {follow: func(c *cluster) { c.Follow(a, login, login) }, want: map[string][]route.Connector{"login": {a}}},
		"same, then less":  {follow: func(c *cluster) { c.Follow(a, login, login); c.Follow(a, login) }, want: map[string][]route.Connector{"login": {a}}},
		"same, then other": {follow: func(c *cluster) { c.Follow(a, login, login); c.Follow(a, other) }, want: map[string][]route.Connector{"other": {a}}},
		"same, then none":  {follow: func(c *cluster) { c.Follow(a, login, login); c.Follow(a) }},
		"unknown owner":    {follow: func(c *cluster) { c.Follow(a) }},
		"again":            {follow: func(c *cluster) { c.Follow(a, login); c.Follow(a); c.Follow(a, login) }, want: map[string][]route.Connector{"login": {a}}},
		"slice is reused": {follow: func(c *cluster) {
			names := []types.NamespacedName{login}
			c.Follow(a, names...)
			names[0] = other
			c.Follow(a)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inCluster(t, func(t *testing.T, c *cluster) {
				tc.follow(c)
				for _, name := range []string{"login", "other"} {
					owners := tc.want[name]
					reason := notFound
					if len(owners) > 0 {
						reason = found
					}
					want(t, "owners of "+name, owners, c.Owners(key(name)))
					want(t, "Get of "+name, reason, c.reason(t, name))
					want(t, "watched "+name, len(owners) > 0, c.watched(name))
				}
			}, object("login", nil), object("other", nil))
		})
	}
}

// With no callback, and with a context that has ended, nothing is called and nothing hangs.
func TestFollowerThatHasEnded(t *testing.T) {
	t.Parallel()
	inCluster(t, func(t *testing.T, c *cluster) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		f := secret.NewFollower(ctx, c.Clientset, nil)
		f.Follow(connector("a"), key("login"))
		_, err := f.Get(ctx, key("login"))
		want(t, "Get", unreadable, reason(t, err))
		f.Follow(connector("a"))
	}, object("login", nil))
}

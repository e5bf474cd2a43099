package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"berth.dev/berth/api/v1alpha1"
)

const revokeLong = `Revoke all berth tokens of a namespace: those of its pull secret, and those in the variables of its containers.

The namespace gets another token generation, an annotation of its Namespace, which you need the right to patch. Both
proxies refuse the tokens of any other within seconds, and close the tunnels that were opened with them; the controller
puts new ones into the Secrets 'berth-pull' and 'berth-proxy' at once. Pulls go on with these. A Pod with HTTP_PROXY has
the old one in its variables, so recreate it.

The tokens of ServiceAccounts, by which volumes get their files, are Kubernetes' own, and end with their Pods.`

func revokeCommand() *cobra.Command {
	var cluster clusterOptions
	c := &cobra.Command{
		Use:     "revoke NAMESPACE",
		Short:   "Revoke all berth tokens of a namespace",
		Long:    revokeLong,
		Example: "  berth revoke shop\n  kubectl -n shop rollout restart deployment",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := cluster.client()
			if err != nil {
				return badInput(err)
			}
			return revoke(c.Context(), c.OutOrStdout(), api, args[0], time.Now())
		},
	}
	cluster.add(c.Flags(), "kubeconfig of the cluster; without it, that of KUBECONFIG or of your home")
	return c
}

// revoke gives a namespace another token generation. Any that it has not had will do; a time tells people when.
func revoke(ctx context.Context, out io.Writer, api client.Client, name string, now time.Time) error {
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	patch := client.MergeFrom(n.DeepCopy())
	metav1.SetMetaDataAnnotation(&n.ObjectMeta, v1alpha1.AnnotationTokenGeneration, now.UTC().Format(time.RFC3339Nano))
	if err := api.Patch(ctx, n, patch, client.FieldOwner(v1alpha1.FieldManager)); err != nil {
		return fmt.Errorf("revoke the tokens of namespace '%s': %w", name, err)
	}
	_, err := fmt.Fprintf(out, "revoked the tokens of namespace '%s'; recreate its Pods that have HTTP_PROXY\n", name)
	return err
}

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"berth.dev/berth/api/v1alpha1"
	"berth.dev/berth/token"
)

const tokenLong = `Make a berth token for a proxy that runs with --static. In a cluster the controller makes them.

The token is for the workloads of one namespace, and says nothing of what they may do: that is for the
access rules of Connectors. Whoever has it signs in with any user name and the token as the password.
It is printed to standard output.`

const tokenExample = `  # once: the key that signs, and its public half for the proxy
  berth token new-key --key token.jwks
  berth token public-keys --key token.jwks > manifests/token-keys.yaml

  # a token for a day
  berth token --key token.jwks --namespace shop --audience pull`

// tokenOptions are the flags of `berth token`.
type tokenOptions struct {
	key       string
	namespace string
	uid       string
	audience  string
	life      time.Duration
}

func tokenCommand() *cobra.Command {
	var o tokenOptions
	c := &cobra.Command{
		Use:     "token --key FILE --namespace NAMESPACE",
		Short:   "Make a token for a proxy without Kubernetes",
		Long:    tokenLong,
		Example: tokenExample,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return badInput(o.mint(c.OutOrStdout(), time.Now()))
		},
	}
	c.PersistentFlags().StringVar(&o.key, "key", "", "file of the keys that sign, as 'berth token new-key' makes it")
	c.Flags().StringVarP(&o.namespace, "namespace", "n", "", "namespace whose workloads hold the token")
	c.Flags().StringVar(&o.uid, "uid", "", "UID of the namespace, where a manifest of the proxy gives it one; else its name")
	c.Flags().StringVar(&o.audience, "audience", string(token.AudiencePull), "what the token is good for: pull (the reverse proxy) or proxy (the forward proxy)")
	c.Flags().DurationVar(&o.life, "for", 24*time.Hour, "how long the token is good")
	c.AddCommand(newKeyCommand(&o), publicKeysCommand(&o))
	return c
}

// mint prints a token.
func (o *tokenOptions) mint(to io.Writer, now time.Time) error {
	audience := token.Audience(o.audience)
	switch {
	case len(validation.IsDNS1123Label(o.namespace)) > 0:
		return fmt.Errorf("'--namespace %s' must be the name of a namespace", o.namespace)
	case !slices.Contains([]token.Audience{token.AudiencePull, token.AudienceProxy}, audience):
		return fmt.Errorf("'--audience %s' must be pull or proxy", o.audience)
	case o.life < time.Second:
		return fmt.Errorf("'--for %s' must be a second or more", o.life)
	}
	keys, err := o.keys()
	if err != nil {
		return err
	}
	claims := token.Claims{Namespace: o.namespace, NamespaceUID: o.uid, Audience: audience, IssuedAt: now, Expires: now.Add(o.life)}
	if claims.NamespaceUID == "" {
		claims.NamespaceUID = o.namespace
	}
	raw, err := keys.Sign(now, claims)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(to, raw)
	return err
}

// keys reads the file of the keys.
func (o *tokenOptions) keys() (token.Keys, error) {
	if o.key == "" {
		return token.Keys{}, errNoKeyFile
	}
	jwks, err := os.ReadFile(o.key)
	if err != nil {
		return token.Keys{}, notRead(o.key, err)
	}
	keys, err := token.ParseKeys(jwks)
	if err != nil {
		return token.Keys{}, fmt.Errorf("'%s': %w", o.key, err)
	}
	return keys, nil
}

var errNoKeyFile = errors.New("name the file of the keys: '--key FILE'")

func newKeyCommand(o *tokenOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "new-key --key FILE",
		Short: "Make the key that signs tokens",
		Long: "Make a key and write it to a new file that nobody else can read. Whoever has the file can make tokens for every\n" +
			"namespace; the proxy does not need it.",
		Example: "  berth token new-key --key token.jwks",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return badInput(o.newKey(time.Now())) },
	}
}

// newKey makes the file of the keys.
func (o *tokenOptions) newKey(now time.Time) error {
	if o.key == "" {
		return errNoKeyFile
	}
	keys, _, _, err := token.Keys{}.Step(now, token.Rotation{Every: tokenKeyLife, Keep: tokenKeyLife})
	if err != nil {
		return err
	}
	jwks, err := keys.Marshal()
	if err != nil {
		return fmt.Errorf("encode the key: %w", err)
	}
	file, err := os.OpenFile(o.key, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("'%s' exists, and what it signed would be worth nothing without it; name another file", o.key)
	}
	if err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	_, err = file.Write(append(jwks, '\n'))
	return errors.Join(err, file.Close())
}

func publicKeysCommand(o *tokenOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "public-keys --key FILE",
		Short: "Print the public keys for the proxy",
		Long: "Print the ConfigMap with the public halves of the keys, by which the proxy verifies tokens. It belongs into the\n" +
			"directory of manifests that the proxy reads, and is no secret.",
		Example: "  berth token public-keys --key token.jwks > manifests/token-keys.yaml",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return badInput(o.publish(c.OutOrStdout())) },
	}
}

// publish prints the ConfigMap with the public keys.
func (o *tokenOptions) publish(to io.Writer) error {
	keys, err := o.keys()
	if err != nil {
		return err
	}
	jwks, err := json.Marshal(keys.Public())
	if err != nil {
		return fmt.Errorf("encode the public keys: %w", err)
	}
	text, err := yaml.Marshal(map[string]any{
		"apiVersion": corev1.SchemeGroupVersion.String(), "kind": "ConfigMap",
		"metadata": map[string]string{"namespace": v1alpha1.SystemNamespace, "name": v1alpha1.TokenKeys},
		"data":     map[string]string{v1alpha1.TokenKeysFile: string(jwks)},
	})
	if err != nil {
		return fmt.Errorf("encode the ConfigMap: %w", err)
	}
	_, err = to.Write(text)
	return err
}

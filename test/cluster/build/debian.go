package build

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// need is a Debian package and a command that succeeds where it is installed.
type need struct {
	pkg   string
	check []string
}

// needs lists what the cluster takes from the machine: iproute2 and nftables
// to make networks, mount for kubelet, the rest to compile runc.
func needs() []need {
	found := func(program string) []string { return []string{"sh", "-c", "command -v " + program} }
	return []need{
		{"iproute2", found("ip")},
		{"nftables", found("nft")},
		{"mount", found("mount")},
		{"gcc", found("gcc")},
		{"libc6-dev", []string{"test", "-e", "/usr/include/stdlib.h"}},
		{"pkg-config", found("pkg-config")},
		{"libseccomp-dev", []string{"pkg-config", "--exists", "libseccomp"}},
	}
}

// Packages installs the Debian packages that are missing, or says the one
// command that does.
func (p *Progress) Packages(ctx context.Context) error {
	var missing []string
	for _, n := range needs() {
		if exec.CommandContext(ctx, n.check[0], n.check[1:]...).Run() != nil {
			missing = append(missing, n.pkg)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	install := append([]string{"apt-get", "install", "--yes", "--no-install-recommends"}, missing...)
	by := fmt.Sprintf("run: apt-get update && %s", strings.Join(install, " "))
	if os.Geteuid() != 0 {
		return fmt.Errorf("missing on this machine: %s; as root, %s", strings.Join(missing, ", "), by)
	}
	fmt.Fprintf(p.out, "installing %s with apt-get\n", strings.Join(missing, ", "))
	if output, err := aptGet(ctx, install); err != nil {
		return fmt.Errorf("installing %s: %w; %s\n%s", strings.Join(missing, ", "), err, by, tail(output))
	}
	return nil
}

// aptGet installs from the package lists at hand and renews them only if that
// fails.
func aptGet(ctx context.Context, install []string) ([]byte, error) {
	output, err := apt(ctx, install)
	if err == nil {
		return output, nil
	}
	if output, err := apt(ctx, []string{"apt-get", "update"}); err != nil {
		return output, err
	}
	return apt(ctx, install)
}

func apt(ctx context.Context, args []string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	return cmd.CombinedOutput()
}

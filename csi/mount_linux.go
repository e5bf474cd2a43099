package csi

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/mount-utils"
)

// mounter is that of Kubernetes, but for what would start programs: the image
// has none.
type mounter struct {
	mount.Interface
}

// NewMounter returns what mounts and unmounts by system calls.
func NewMounter() mount.Interface { return mounter{mount.NewWithoutSystemd("")} }

// flags are the options that are not the file system's own.
func flags(options []string) (flags uintptr, rest []string) {
	for _, option := range options {
		switch option {
		case "nosuid":
			flags |= unix.MS_NOSUID
		case "nodev":
			flags |= unix.MS_NODEV
		case "noexec":
			flags |= unix.MS_NOEXEC
		default:
			rest = append(rest, option)
		}
	}
	return flags, rest
}

// Mount implements mount.Interface.
func (mounter) Mount(source, target, fstype string, options []string) error {
	flags, rest := flags(options)
	if err := unix.Mount(source, target, fstype, flags, strings.Join(rest, ",")); err != nil {
		return fmt.Errorf("mount %s at '%s': %w", fstype, target, err)
	}
	return nil
}

// Unmount implements mount.Interface.
func (mounter) Unmount(target string) error {
	if err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("unmount '%s': %w", target, err)
	}
	return nil
}

//go:build !linux

package csi

import "k8s.io/mount-utils"

// NewMounter returns a mounter: volumes are for Linux nodes, and on other systems Berth is built for people.
func NewMounter() mount.Interface { return mount.New("") }

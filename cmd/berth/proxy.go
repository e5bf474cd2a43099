package main

import "github.com/spf13/cobra"

func proxyCommand() *cobra.Command { return &cobra.Command{Use: "proxy"} }

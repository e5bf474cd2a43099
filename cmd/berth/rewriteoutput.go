package main

import (
	"bytes"
	"fmt"
	"io"

	"github.com/aymanbagabas/go-udiff"

	"berth.dev/berth/manifest"
)

// print writes the results in the format that was asked for, at once.
func (o *rewriteOptions) print(results []result, to io.Writer) error {
	var out bytes.Buffer
	var err error
	switch o.output {
	case "diff":
		for _, r := range results {
			out.WriteString(udiff.Unified(r.name, r.name, string(r.before.Bytes()), string(r.after.Bytes())))
		}
	case "report":
		for _, r := range results {
			for _, e := range r.report {
				fmt.Fprintln(&out, e.String())
			}
		}
	case "json":
		err = printJSON(results, &out)
	default:
		var all []*manifest.Stream
		for _, r := range results {
			all = append(all, r.after)
		}
		out.Write(manifest.Join(all))
	}
	if err != nil {
		return err
	}
	if _, err := to.Write(out.Bytes()); err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	return nil
}

func printJSON(results []result, to *bytes.Buffer) error {
	for _, r := range results {
		text, err := r.after.JSON()
		if err != nil {
			return err
		}
		to.Write(text)
	}
	return nil
}

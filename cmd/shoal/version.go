package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// The linker sets both in packages. Other builds know their commit from the source's repository.
var (
	version  = "development"
	revision = ""
)

func newVersion(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: `  shoal version --json`,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if e.json {
				printJSON(e.stdout, struct {
					V         int      `json:"v"`
					T         string   `json:"t"`
					Version   string   `json:"version"`
					Revision  string   `json:"revision"`
					Go        string   `json:"go"`
					Protocols []string `json:"protocols"`
				}{1, "version", version, commit(), runtime.Version(), []string{"shoal/2", "classic"}})
				return nil
			}
			fmt.Fprintf(e.stdout, "shoal %s (%s, %s, protocols: shoal/2, classic)\n", version, commit(), runtime.Version())
			return nil
		},
	}
}

// commit returns of which state of the source this program is.
func commit() string {
	if revision != "" {
		return revision
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}

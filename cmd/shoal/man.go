package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// exitMeanings are the exit statuses as the reference lists them.
var exitMeanings = []struct {
	status int
	means  string
}{
	{0, "done, or already complete"},
	{exitInternal, "a failure that has no status of its own"},
	{exitUsage, "the command line, the configuration, or a port that is taken"},
	{exitNotFound, "nobody has it"},
	{exitAmbiguous, "a name means several things"},
	{exitUnreachable, "no server, or no peer, answers"},
	{exitIntegrity, "a file is not what it should be"},
	{exitSpace, "no space"},
	{exitPermission, "no permission, or somebody else is at it"},
	{exitTrust, "not a member, or not let in"},
	{exitIncomplete, "nothing came any more"},
	{exitExists, "another file is there"},
	{exitIncompatible, "a newer version has written this, or is needed"},
	{130, "stopped by Ctrl-C"},
	{141, "nobody reads standard output any more"},
	{143, "stopped by SIGTERM"},
}

func newMan(e *env) *cobra.Command {
	markdown := false
	cmd := &cobra.Command{
		Use:     "man DIR",
		Short:   "Write the manual pages into a folder",
		Example: "  shoal man /usr/local/share/man/man1\n  shoal man --markdown",
		Hidden:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if markdown {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := plainRoot(cmd.Root())
			if markdown {
				return writeReference(e.stdout, root)
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			return doc.GenManTree(root, &doc.GenManHeader{Title: "SHOAL", Section: "1", Source: "shoal " + version, Manual: "Shoal"}, args[0])
		},
	}
	cmd.Flags().BoolVar(&markdown, "markdown", false, "print docs/CLI.md instead")
	return cmd
}

// plainRoot takes out of the table of commands what differs from machine to machine.
func plainRoot(root *cobra.Command) *cobra.Command {
	root.DisableAutoGenTag = true
	root.InitDefaultHelpCmd()
	root.PersistentFlags().Lookup("state").DefValue = "~/.local/state/shoal"
	if peer, _, err := root.Find([]string{"peer"}); err == nil {
		peer.Flags().Lookup("config").DefValue = "~/.config/shoal/peer.toml"
	}
	return root
}

// writeReference writes the reference of all commands as Markdown.
func writeReference(w io.Writer, root *cobra.Command) error {
	var b strings.Builder
	b.WriteString("# Commands\n\nMade from the table of commands by `shoal man --markdown`; a test holds it there. `shoal COMMAND --help` says the same.\n\n")
	b.WriteString("## Flags of all commands\n\nEach flag can be set in the environment, too: `--limit-up` is `SHOAL_LIMIT_UP`. The command line wins.\n\n")
	fmt.Fprintf(&b, "```\n%s```\n", root.PersistentFlags().FlagUsages())
	for _, cmd := range root.Commands() {
		describe(&b, cmd)
	}
	b.WriteString("\n## Exit statuses\n\n| status | means |\n| --- | --- |\n")
	for _, m := range exitMeanings {
		fmt.Fprintf(&b, "| %d | %s |\n", m.status, m.means)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func describe(b *strings.Builder, cmd *cobra.Command) {
	if !cmd.IsAvailableCommand() || cmd.Name() == "help" || cmd.Name() == "completion" {
		return
	}
	about := cmd.Long
	if about == "" {
		about = cmd.Short + "."
	}
	fmt.Fprintf(b, "\n## %s\n\n%s\n\n```\n%s\n```\n", cmd.CommandPath(), about, cmd.UseLine())
	if cmd.Example != "" {
		fmt.Fprintf(b, "\n```\n%s\n```\n", strings.TrimRight(cmd.Example, "\n"))
	}
	if flags := cmd.NonInheritedFlags().FlagUsages(); flags != "" {
		fmt.Fprintf(b, "\n```\n%s```\n", flags)
	}
	for _, sub := range cmd.Commands() {
		describe(b, sub)
	}
}

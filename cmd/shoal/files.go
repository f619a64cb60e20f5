package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"shoal/internal/content"
	"shoal/internal/identity"
	"shoal/internal/node"
	"shoal/internal/store"
	"shoal/internal/wire"

	"github.com/spf13/cobra"
)

func newLs(e *env) *cobra.Command {
	var p peerFlags
	cmd := &cobra.Command{
		Use:     "ls",
		Short:   "List the files in the swarm",
		Example: "  shoal ls\n  shoal ls --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			only, err := e.onlyClassic(p.classic)
			if err != nil {
				return err
			}
			if only {
				return &failure{
					Code: "E-PROTOCOL", Exit: exitIncompatible, What: "the classic protocol cannot list the files of a swarm",
					Cause: "a classic peer only answers whether it has a file of a given name",
					Next:  "shoal get --classic NAME    if you know the name; shoal peers --classic    lists who is there",
				}
			}
			p.classic = false
			if c := e.peerHere(cmd.Context()); c != nil {
				return handLs(cmd.Context(), e, c)
			}
			return e.inSwarm(cmd.Context(), p, func(ctx context.Context, m *node.Member) error { return listFiles(ctx, e, m) })
		},
	}
	addClassic(cmd, &p.classic)
	return cmd
}

func listFiles(ctx context.Context, e *env, m *node.Member) error {
	entries, err := m.List(ctx)
	if err != nil {
		return err
	}
	printFiles(e, entries)
	return nil
}

// printFiles prints what a swarm has.
func printFiles(e *env, entries []wire.Entry) {
	slices.SortStableFunc(entries, func(a, b wire.Entry) int { return strings.Compare(a.Name, b.Name) })
	for _, f := range entries {
		if e.json {
			printJSON(e.stdout, struct {
				V       int    `json:"v"`
				T       string `json:"t"`
				Name    string `json:"name"`
				ID      string `json:"id"`
				Size    int64  `json:"size"`
				Holders uint64 `json:"holders"`
				Seeds   uint64 `json:"seeds"`
				Age     uint64 `json:"age"`
				By      string `json:"by"`
				Kind    string `json:"kind"`
			}{1, "file", f.Name, f.ID.String(), f.Size, f.Holders, f.Seeds, f.Age, identity.PeerText(f.By), f.Kind.String()})
			continue
		}
		fmt.Fprintf(e.stdout, "%s  %10s  %12s  %4d whole  %s\n", f.ID.String()[:16], size(f.Size), count(int(f.Holders), "holder"), f.Seeds, printable(slashed(f.Name, f.Kind)))
	}
	if len(entries) == 0 && !e.json && !e.quiet {
		e.screen.printf("nobody shares anything\n  next:  shoal share FILE\n")
	}
}

// age writes a number of seconds as people say it.
func age(s uint64) string {
	d := time.Duration(min(s, 1<<30)) * time.Second
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// printable is text from elsewhere, as it is if a terminal can be trusted with it.
func printable(s string) string {
	if q := quote(s); q != `"`+s+`"` {
		return q
	}
	return s
}

func newID(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "id FILE...",
		Short:   "Print the content ids of files, as b3sum does",
		Example: "  shoal id ubuntu.img",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, path := range args {
				id, bytes, err := idOf(cmd.Context(), e, path)
				if err != nil {
					return err
				}
				if e.json {
					printJSON(e.stdout, struct {
						V    int    `json:"v"`
						T    string `json:"t"`
						Path string `json:"path"`
						ID   string `json:"id"`
						Size int64  `json:"size"`
					}{1, "id", path, id.String(), bytes})
				} else {
					fmt.Fprintf(e.stdout, "%s  %s\n", id, path)
				}
			}
			return nil
		},
	}
}

// idOf hashes a file, whatever is known of it.
func idOf(ctx context.Context, e *env, path string) (id content.ID, bytes int64, err error) {
	fi, err := os.Stat(path)
	if err != nil {
		return id, 0, err
	}
	if !fi.Mode().IsRegular() {
		return id, 0, fmt.Errorf("%s: %w", path, store.ErrNoFile)
	}
	f, err := os.Open(path)
	if err != nil {
		return id, 0, err
	}
	defer f.Close()
	count, stop := hashing(e, path)
	m, _, err := (*store.Cache)(nil).Manifest(ctx, f, 0, count)
	stop()
	if err != nil {
		return id, 0, err
	}
	return m.ID, m.Geo.Size, nil
}

func newVerify(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "verify FILE [ID]",
		Short: "Check that a file is what it should be",
		Long: `Hash a file, and compare it with an id (or its first 8 digits or more). Without an id it is compared with what the swarm has
under the file's name.`,
		Example: "  shoal verify ubuntu.img 9f2c4a77\n  shoal verify ubuntu.img",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, bytes, err := idOf(cmd.Context(), e, args[0])
			if err != nil {
				return err
			}
			want := ""
			good := false
			if len(args) == 2 {
				prefix, err := content.ParsePrefix(args[1])
				if err != nil {
					return &usageError{err.Error()}
				}
				want, good = args[1], prefix.Match(id)
			} else if want, good, err = swarmHas(cmd.Context(), e, args[0], id); err != nil {
				return err
			}
			if !good {
				return &failure{
					Code: "E-VERIFY", Exit: exitIntegrity, What: fmt.Sprintf("%s is not %s", quote(args[0]), want), Cause: "its id is " + id.String(),
					Next: "shoal get --overwrite " + shellQuote(want) + "    repairs it: only what differs is fetched",
				}
			}
			if e.json {
				printJSON(e.stdout, struct {
					V    int    `json:"v"`
					T    string `json:"t"`
					Path string `json:"path"`
					ID   string `json:"id"`
					Size int64  `json:"size"`
				}{1, "verified", args[0], id.String(), bytes})
			} else if !e.quiet {
				e.screen.printf("%s %s  %s  is what it should be\n         id  %s\n", e.screen.sign("✓", "ok"), quote(args[0]), size(bytes), id)
			}
			return nil
		},
	}
}

// swarmHas says whether one of the contents that the swarm has under a file's name has its id.
func swarmHas(ctx context.Context, e *env, path string, id content.ID) (want string, good bool, err error) {
	name := path[strings.LastIndexAny(path, `/\`)+1:]
	err = e.inSwarm(ctx, peerFlags{}, func(ctx context.Context, m *node.Member) error {
		entries, err := m.Find(ctx, name, content.Prefix{})
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return withNear(ctx, &node.NoContentError{What: name}, name, m.List)
		}
		for _, f := range entries {
			want = f.ID.String()
			if good = f.ID == id; good {
				break
			}
		}
		return nil
	})
	return want, good, err
}

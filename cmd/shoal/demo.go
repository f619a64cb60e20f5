package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"shoal/internal/demo"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

const (
	demoSeeds   = 4
	demoGetters = 3
)

type demoOptions struct {
	size, dir string
	classic   bool
}

func newDemo(e *env) *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo [FILE]",
		Short: "Show a whole swarm on this machine",
		Long: fmt.Sprintf(`Show a whole swarm on this machine: a swarm server, %d peers that share a file, and %d that download it at once. At the
end all copies are compared with what was shared, and everything is removed. Without FILE a file is made.`, demoSeeds, demoGetters),
		Example: `  shoal demo
  shoal demo ~/Downloads/debian.iso`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := ""
			if len(args) > 0 {
				file = args[0]
			}
			return runDemo(cmd.Context(), e, o, file)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.classic, "classic", false, "show the classic protocol instead: unencrypted, unverified")
	f.StringVar(&o.size, "size", "256MiB", "size of the file that is made")
	f.StringVar(&o.dir, "dir", "", "where to put the copies while it runs (default: the system's temporary folder)")
	return cmd
}

func runDemo(ctx context.Context, e *env, o demoOptions, file string) error {
	bytes, err := humanize.ParseBytes(o.size)
	if err != nil || bytes == 0 || bytes > 1<<50 {
		return &usageError{"--size: " + quote(o.size) + " is no size, such as 256MiB"}
	}
	d := demo.New(demo.Config{
		File: file, Size: int64(bytes), Seeds: demoSeeds, Getters: demoGetters, Dir: o.dir, Classic: o.classic, Log: e.log(slog.LevelError),
	})
	if !e.json && !e.quiet {
		how := "encrypted, verified"
		if o.classic {
			how = "classic: unencrypted, unverified"
		}
		e.screen.printf("A swarm on this machine: 1 server, %d peers that share, %d that download at once (%s)\n", demoSeeds, demoGetters, how)
	}
	stop := showDemo(e, d)
	began := time.Now()
	r, err := d.Run(ctx)
	stop()
	e.screen.close() // what goes to standard output would be drawn over
	if err != nil {
		return err
	}
	printDemo(e, r, time.Since(began))
	return nil
}

// showDemo draws a line for each download, and one for what happens.
func showDemo(e *env, d *demo.Demo) (stop func()) {
	if e.json || e.quiet {
		return func() {}
	}
	var stops []func()
	for i := range demoGetters {
		stops = append(stops, e.screen.show(func() gauge {
			all := d.Snapshot().Downloads
			if i >= len(all) || all[i].Size == 0 {
				return gauge{Label: fmt.Sprintf("getter %d", i+1)}
			}
			st := all[i]
			rate := fmt.Sprintf("%s/s", size(int64(st.Rate)))
			if st.Complete {
				rate = "complete"
			}
			return gauge{
				Label: fmt.Sprintf("getter %d", i+1), Done: st.Done, Total: st.Size, Short: rate,
				Facts: fmt.Sprintf("%s/%s  %s  sources %d", size(st.Done), size(st.Size), rate, st.Sources),
			}
		}))
	}
	stops = append(stops, e.screen.show(func() gauge {
		s := d.Snapshot()
		return gauge{Label: fmt.Sprintf("%s; given by each: %s", s.Step, sizes(s.Sent))}
	}))
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}

func sizes(all []int64) string {
	out := ""
	for i, n := range all {
		if i > 0 {
			out += ", "
		}
		out += size(n)
	}
	return out
}

func printDemo(e *env, r *demo.Result, took time.Duration) {
	if e.json {
		printJSON(e.stdout, struct {
			V       int     `json:"v"`
			T       string  `json:"t"`
			Name    string  `json:"name"`
			Size    int64   `json:"size"`
			Seconds float64 `json:"seconds"`
			Copies  int     `json:"copies"`
			SHA256  string  `json:"sha256"`
			Sent    []int64 `json:"sent"`
		}{1, "demo", r.Name, r.Size, took.Seconds(), len(r.Getters), fmt.Sprintf("%x", r.SHA256), r.Sent})
		return
	}
	fmt.Fprintf(e.stdout, "shared    %s  %s  sha256 %x\n", r.Name, size(r.Size), r.SHA256)
	for i, got := range r.Getters {
		fmt.Fprintf(e.stdout, "getter %d  %s from %d peers  sha256 the same\n", i+1, size(got.Fetched), got.Sources)
	}
	fmt.Fprintf(e.stdout, "given by each sharing peer: %s\n", sizes(r.Sent))
	fmt.Fprintf(e.stdout, "%s %d copies, all equal, in %v; everything is removed again\n",
		e.screen.sign("✓", "ok"), len(r.Getters), took.Round(10*time.Millisecond))
}

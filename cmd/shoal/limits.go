package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"shoal/internal/daemon"

	"github.com/spf13/cobra"
)

type limitsOptions struct {
	up, down, peerUp, peerDown rateFlag
	reset                      bool
}

func newLimits(e *env) *cobra.Command {
	var o limitsOptions
	cmd := &cobra.Command{
		Use:   "limits",
		Short: "Show or set how fast the peer gives and downloads",
		Long: `Show how fast the peer of this machine gives and downloads at most, or set it. What is set here holds at once, until it is set again, also after a
restart, and instead of the configuration file, whose limits --reset brings back. What no flag names stays as it is, and so do limits of parts of the week.`,
		Example: "  shoal limits\n  shoal limits --up 20MiB/s --peer-up 5MiB/s\n  shoal limits --reset",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runLimits(cmd.Context(), e, o, cmd.Flags().Changed)
		},
	}
	f := cmd.Flags()
	f.Var(&o.up, "up", "most that others are given, in all: 200MiB/s, 80Mbit/s (0: no limit)")
	f.Var(&o.down, "down", "most that is downloaded, in all")
	f.Var(&o.peerUp, "peer-up", "most that any one peer is given")
	f.Var(&o.peerDown, "peer-down", "most that is downloaded from any one peer")
	f.BoolVar(&o.reset, "reset", false, "the limits of the configuration file hold again")
	return cmd
}

func runLimits(ctx context.Context, e *env, o limitsOptions, changed func(string) bool) error {
	c, err := e.needPeer(ctx)
	if err != nil {
		return err
	}
	var l daemon.Limits
	if o.reset {
		err = c.do(ctx, http.MethodDelete, "/limits", struct{}{}, &l)
	} else {
		err = c.do(ctx, http.MethodGet, "/limits", nil, &l)
	}
	if err != nil {
		return err
	}
	if o.set(&l, changed) {
		if err := c.do(ctx, http.MethodPut, "/limits", l, &l); err != nil {
			return err
		}
	}
	var st daemon.Stats
	if err := c.do(ctx, http.MethodGet, "/status", nil, &st); err != nil {
		return err
	}
	printLimits(e, l, st.Now)
	return nil
}

// set takes over what flags say, and says whether they say anything.
func (o *limitsOptions) set(l *daemon.Limits, changed func(string) bool) (any bool) {
	for _, f := range []struct {
		name string
		from rateFlag
		to   *int64
	}{{"up", o.up, &l.Up}, {"down", o.down, &l.Down}, {"peer-up", o.peerUp, &l.PeerUp}, {"peer-down", o.peerDown, &l.PeerDown}} {
		if changed(f.name) {
			*f.to, any = int64(f.from), true
		}
	}
	return any
}

// printLimits prints limits, and what of them holds now.
func printLimits(e *env, l daemon.Limits, now daemon.Rates) {
	if e.json {
		printJSON(e.stdout, struct {
			V int    `json:"v"`
			T string `json:"t"`
			daemon.Limits
			Now daemon.Rates `json:"now"`
		}{1, "limits", l, now})
		return
	}
	line := func(what string, r daemon.Rates) {
		var parts []string
		for _, x := range []struct {
			what string
			rate int64
		}{{"up", r.Up}, {"down", r.Down}, {"up to any one peer", r.PeerUp}, {"down from any one peer", r.PeerDown}} {
			if x.rate > 0 {
				parts = append(parts, x.what+" "+size(x.rate)+"/s")
			}
		}
		if parts == nil {
			parts = []string{"no limit"}
		}
		fmt.Fprintf(e.stdout, "%s  %s\n", what, strings.Join(parts, ", "))
	}
	line("limits", l.Rates)
	if len(l.Windows) > 0 {
		line("now   ", now)
	}
}

package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"shoal/internal/node"

	"github.com/spf13/cobra"
)

// listTime is how long nothing new must have come from the server for its list to count as whole: the protocol has no mark
// for its end.
const listTime = 500 * time.Millisecond

func newPeers(e *env) *cobra.Command {
	var p peerFlags
	cmd := &cobra.Command{
		Use:   "peers",
		Short: "List who is in the swarm",
		Long: `List who is in the swarm. With --classic, on a machine that is in no swarm, one ADDR:PORT a line: the classic protocol tells
that only to members, so this enters the swarm for a moment; what it announces is a port on which it does listen.`,
		Example: `  shoal peers
  shoal peers --classic --server 10.0.0.5 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runPeers(cmd.Context(), e, p) },
	}
	p.add(cmd)
	return cmd
}

func runPeers(ctx context.Context, e *env, p peerFlags) error {
	if only, err := e.onlyClassic(p.classic); err != nil {
		return err
	} else if !only {
		p.classic = false
		return e.inSwarm(ctx, p, func(ctx context.Context, m *node.Member) error { return listMembers(ctx, e, m, false) })
	}
	if p.listen == "" {
		p.listen = "0.0.0.0:0"
	}
	n, err := p.node(e, slog.LevelWarn, nil)
	if err != nil {
		return err
	}
	defer n.Close()
	return n.Run(ctx, func(ctx context.Context) error {
		n.Settled(ctx, listTime)
		members := n.Members()
		for _, m := range members {
			if e.json {
				printJSON(e.stdout, struct {
					V        int    `json:"v"`
					T        string `json:"t"`
					Addr     string `json:"addr"`
					Protocol string `json:"protocol"`
				}{1, "peer", m.String(), "classic"})
			} else {
				fmt.Fprintln(e.stdout, m)
			}
		}
		if len(members) == 0 && !e.json && !e.quiet {
			e.screen.printf("nobody else is in the swarm\n  next:  shoal share --classic FILE\n")
		}
		return ctx.Err()
	})
}

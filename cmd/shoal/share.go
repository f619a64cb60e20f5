package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"shoal/internal/node"

	"github.com/spf13/cobra"
)

type shareOptions struct {
	peerFlags
	name string
}

func newShare(e *env) *cobra.Command {
	var o shareOptions
	cmd := &cobra.Command{
		Use:   "share FILE...",
		Short: "Share files until Ctrl-C",
		Long:  `Share files with everyone in the swarm, from where they lie, until Ctrl-C.`,
		Example: `  shoal share --classic ubuntu.img
  shoal share --classic --server 10.0.0.5 model.bin data.tar`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runShare(cmd.Context(), e, o, args) },
	}
	o.add(cmd)
	cmd.Flags().StringVar(&o.name, "name", "", "share the one file under this name")
	return cmd
}

func runShare(ctx context.Context, e *env, o shareOptions, files []string) error {
	if o.name != "" && len(files) > 1 {
		return &usageError{"--name goes with one file"}
	}
	n, err := o.node(e, slog.LevelWarn, func(name string, err error) {
		e.screen.printf("warning: %s is not served any more: %s\n", quote(name), oneLine(err.Error()))
	})
	if err != nil {
		return err
	}
	defer n.Close()
	for _, path := range files {
		if _, err := n.Share(path, o.name); err != nil {
			return err
		}
	}
	return n.Run(ctx, func(ctx context.Context) error {
		announceShares(e, n)
		defer e.screen.show(serving(n))()
		<-ctx.Done()
		return nil // that is how sharing ends
	})
}

// announceShares says what is shared, and how the others get it.
func announceShares(e *env, n *node.Node) {
	self, _ := n.Self()
	for _, s := range n.Shares() {
		if e.json {
			printJSON(e.stdout, struct {
				V    int    `json:"v"`
				T    string `json:"t"`
				Name string `json:"name"`
				Size int64  `json:"size"`
				Path string `json:"path"`
				Addr string `json:"addr"`
			}{1, "sharing", s.Name, s.Size, s.Path, self.String()})
		} else if !e.quiet {
			e.screen.printf("Sharing  %s  %s  from %v  (classic: unencrypted, unverified)\n", quote(s.Name), size(s.Size), self)
		}
	}
	if e.json || e.quiet {
		return
	}
	e.screen.printf("\nOn the other machines run:\n\n")
	for _, s := range n.Shares() {
		e.screen.printf("    shoal get --classic --server %s %s\n", e.server, shellQuote(s.Name))
	}
	e.screen.printf("\nCtrl-C stops sharing.\n")
}

// serving describes what a node gives to others.
func serving(n *node.Node) func() gauge {
	last, at, rate := int64(0), time.Now(), 0.0
	return func() gauge {
		st := n.Stats()
		if dt := time.Since(at); dt > time.Second {
			rate = float64(st.Sent-last) / dt.Seconds()
			last, at = st.Sent, time.Now()
		}
		return gauge{Label: fmt.Sprintf("Serving: %d connections, %s/s up, %s in all, %d other members",
			st.Serving, size(int64(rate)), size(st.Sent), st.Members)}
	}
}

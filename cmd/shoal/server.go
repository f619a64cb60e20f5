package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"shoal/internal/classic"
	"shoal/internal/node"
	"shoal/internal/swarm"

	"github.com/spf13/cobra"
)

type serverOptions struct {
	classic                   bool
	listen                    string
	keepAlive                 time.Duration
	maxMembers, maxPerAddress int
}

func newServer(e *env) *cobra.Command {
	var o serverOptions
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run the swarm server: who is there",
		Long: `Run the swarm server. It tells the peers of each other, as they come and go. It knows no files and carries none of
their bytes; a download that is under way goes on without it.`,
		Example: `  shoal server --classic
  shoal server --classic --listen 10.0.0.5:50001`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runServer(cmd.Context(), e, o) },
	}
	addClassic(cmd, &o.classic)
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", ":"+strconv.Itoa(classic.DefaultPort), "where to listen, ADDR:PORT")
	f.DurationVar(&o.keepAlive, "keepalive", 15*time.Second, "how long a peer may be silent before it is probed; it is missed after twice that")
	f.IntVar(&o.maxMembers, "max-members", 65_536, "connections at once")
	f.IntVar(&o.maxPerAddress, "max-per-address", 4096, "connections at once from one address")
	return cmd
}

func runServer(ctx context.Context, e *env, o serverOptions) error {
	if err := wantClassic(o.classic); err != nil {
		return err
	}
	if o.keepAlive < time.Second || o.maxMembers < 1 || o.maxPerAddress < 1 {
		return &usageError{"--keepalive must be at least 1s, --max-members and --max-per-address at least 1"}
	}
	addr, err := hostPort(o.listen, classic.DefaultPort)
	if err != nil {
		return &usageError{"--listen: " + err.Error()}
	}
	// The probes' own times are whole seconds on most systems.
	probe := net.KeepAliveConfig{Enable: true, Idle: o.keepAlive, Interval: max(o.keepAlive/3, time.Second), Count: 3}
	s := swarm.NewServer(swarm.ServerConfig{
		MaxMembers: o.maxMembers, MaxPerAddress: o.maxPerAddress, KeepAlive: probe, Log: e.log(slog.LevelInfo),
	})
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp4", addr)
	if err != nil {
		return &node.ListenError{Addr: addr, Err: err}
	}
	if e.json {
		printJSON(e.stdout, struct {
			V    int    `json:"v"`
			T    string `json:"t"`
			Addr string `json:"addr"`
		}{1, "listening", ln.Addr().String()})
	} else if !e.quiet {
		e.screen.printf("Swarm server on %v (classic: unencrypted, open to anyone who connects). Ctrl-C stops it.\n", ln.Addr())
		if host, _, _ := net.SplitHostPort(ln.Addr().String()); host == "0.0.0.0" {
			e.screen.printf("On the other machines add  --server ADDRESS-OF-THIS-MACHINE\n")
		}
	}
	stop := e.screen.show(func() gauge {
		st := s.Stats()
		return gauge{Label: fmt.Sprintf("%d members, %d connections", st.Entries, st.Connections)}
	})
	defer stop()
	return s.Serve(ctx, ln)
}

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"shoal/internal/api"
	"shoal/internal/classic"
	"shoal/internal/content"
	"shoal/internal/identity"
	"shoal/internal/page"
	"shoal/internal/swarm"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

type serverOptions struct {
	classic                   bool
	listen                    string
	keepAlive                 time.Duration
	maxMembers, maxPerAddress int
	advertise                 string
	webFlags
}

func newServer(e *env) *cobra.Command {
	var o serverOptions
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run the swarm server: who is there",
		Long: `Run the swarm server. It lets machines into the swarm, knows who is there and what they share, and carries none of their
bytes; a download that is under way goes on without it. The first run makes the swarm and its keys.`,
		Example: `  shoal server
  shoal server --listen 10.0.0.5:50001 --classic
  shoal server --web 127.0.0.1:50080`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runServer(cmd.Context(), e, o) },
	}
	addClassic(cmd, &o.classic)
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", ":"+strconv.Itoa(classic.DefaultPort), "where to listen, ADDR:PORT")
	f.StringVar(&o.advertise, "advertise", "", "addresses in links, HOST[:PORT][,...] (default: those of this machine's interfaces)")
	o.webFlags.add(f, "", "where a page shows the swarm, ADDR:PORT, as 127.0.0.1:50080; beyond the loopback it is encrypted (default: nowhere)")
	f.DurationVar(&o.keepAlive, "keepalive", 15*time.Second, "how long a peer may be silent before it is probed; it is missed after twice that")
	f.IntVar(&o.maxMembers, "max-members", 65_536, "connections at once")
	f.IntVar(&o.maxPerAddress, "max-per-address", 4096, "connections at once from one address")
	return cmd
}

func runServer(ctx context.Context, e *env, o serverOptions) error {
	if o.keepAlive < time.Second || o.maxMembers < 1 || o.maxPerAddress < 1 {
		return &usageError{"--keepalive must be at least 1s, --max-members and --max-per-address at least 1"}
	}
	sw, err := ownSwarm(e)
	if err != nil {
		return err
	}
	var old *swarm.ServerConfig
	if o.classic {
		// The probes' own times are whole seconds on most systems.
		probe := net.KeepAliveConfig{Enable: true, Idle: o.keepAlive, Interval: max(o.keepAlive/3, time.Second), Count: 3}
		old = &swarm.ServerConfig{MaxMembers: o.maxMembers, MaxPerAddress: o.maxPerAddress, KeepAlive: probe, Log: e.log(slog.LevelInfo)}
	}
	web, err := o.webFlags.open("server", e.state, false)
	if err != nil {
		return err
	}
	if web != nil {
		defer web.Close()
	}
	host, err := openServer(ctx, e, sw, o.listen, o.advertise, old, slog.LevelInfo)
	if err != nil {
		return err
	}
	if err := announceServer(e, sw, host, o.classic); err != nil {
		host.close()
		return err
	}
	if web != nil && !e.quiet && !e.json {
		web.announce(e, "shoal web server")
	}
	stop := e.screen.show(func() gauge {
		st := host.server.Stats()
		if o.classic {
			return gauge{Label: fmt.Sprintf("%d members, %d classic peers", st.Members, st.Classic)}
		}
		return gauge{Label: fmt.Sprintf("%d members", st.Members)}
	})
	defer stop()
	if web == nil {
		return host.serve(ctx)
	}
	return serveWithPage(ctx, e, host, web)
}

// serveWithPage serves the swarm, and the page that shows it.
func serveWithPage(ctx context.Context, e *env, host *serverHost, web *webPort) error {
	token, err := api.LoadToken(e.state)
	if err != nil {
		host.close()
		return err
	}
	local, err := api.Listen(api.ServerSocketPath(e.state))
	if err != nil {
		host.close()
		return err
	}
	defer local.Close()
	s := api.NewSwarm(api.SwarmConfig{
		Overview: host.server.Overview, Explain: told, Token: token, Page: page.Server(), URL: web.url, Fingerprint: web.fingerprint,
		Swarm: host.sw.ID().String(), Name: machineName(), Version: version, Log: e.log(slog.LevelInfo),
	})
	g, inner := errgroup.WithContext(ctx)
	g.Go(func() error { return host.serve(inner) })
	g.Go(func() error { return s.Serve(inner, local, s.Local()) })
	g.Go(func() error { return s.Serve(inner, web.Listener, s.Web(web.hosts...)) })
	return g.Wait()
}

// ownSwarm returns the swarm whose server this machine is; it makes one if there is none.
func ownSwarm(e *env) (*identity.Swarm, error) {
	all, err := e.swarms()
	if err != nil {
		return nil, err
	}
	for _, sw := range all {
		if sw.IsServer() {
			return sw, nil
		}
	}
	states, err := e.states()
	if err != nil {
		return nil, err
	}
	return states.Create()
}

// announceServer says where the server is, and how machines are let in.
func announceServer(e *env, sw *identity.Swarm, host *serverHost, classic bool) error {
	if e.quiet && !e.json {
		return nil
	}
	token, _, err := sw.NewToken(identity.MemberRole, identity.TokenLife, 0, time.Now())
	if err != nil {
		return err
	}
	link := sw.Link(token, "", content.Prefix{}).String()
	if e.json {
		printJSON(e.stdout, struct {
			V     int    `json:"v"`
			T     string `json:"t"`
			Addr  string `json:"addr"`
			Swarm string `json:"swarm"`
			Link  string `json:"link"`
		}{1, "listening", host.ln.Addr().String(), sw.ID().String(), link})
		return nil
	}
	e.screen.printf("Swarm server on %v for the swarm %s. Ctrl-C stops it.\n", host.ln.Addr(), sw.ID().String()[:8])
	if classic {
		e.screen.printf("Classic peers are let in as well: unencrypted, open to anyone who connects.\n")
	}
	e.screen.printf("\nOn the machines that are to come in (the link is good for 24 hours):\n\n    shoal join %s\n\n", shellQuote(link))
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"shoal/internal/api"
	"shoal/internal/daemon"
	"shoal/internal/identity"
	"shoal/internal/node"
	"shoal/internal/page"
	"shoal/internal/store"

	"golang.org/x/sync/errgroup"
)

// drainTime is how long the end may take: whatever hangs then is left to the next start, as after a crash.
const drainTime = 28 * time.Second

// gcPercent is by how much the heap may grow before it is collected, idlePercent that of a peer that is idle.
const gcPercent, idlePercent = 30, 10

// peerService is the long-running peer as a process: its configuration, its doors, and what systemd is told.
type peerService struct {
	e       *env
	o       peerOptions
	changed func(flag string) bool // the user has given it
	notify  *notifier
	cache   *store.Cache

	mu     sync.Mutex // guards what follows
	config peerConfig
	listen map[identity.SwarmID]string
}

// runPeer runs the long-running peer until a signal.
func runPeer(ctx context.Context, e *env, o peerOptions, changed func(string) bool) error {
	p := &peerService{
		e: e, o: o, changed: changed, notify: newNotifier(), cache: store.OpenCache(filepath.Join(e.state, "hashes")), listen: make(map[identity.SwarmID]string),
	}
	defer p.notify.close()
	settings, err := p.read()
	if err != nil {
		return err
	}
	states, err := e.states()
	if err != nil {
		return err
	}
	lock, err := states.Hold(fmt.Sprintf("process %d, since %s", os.Getpid(), time.Now().Format("2006-01-02 15:04")))
	if err != nil {
		return err
	}
	defer lock.Close()
	token, err := api.LoadToken(e.state)
	if err != nil {
		return err
	}
	log := e.log(slog.LevelInfo)
	engine := daemon.New(daemon.Config{
		Dir: e.state, States: states, Name: machineName(), Version: version, Cache: p.cache, Log: log, Settings: settings,
		NewMember: p.member, Serve: p.serve, SetLimits: setLimits, Idle: idle, Explain: told, Beat: p.notify.beat,
	})
	local, err := api.Listen(api.SocketPath(e.state))
	if err != nil {
		return err
	}
	defer local.Close()
	web, err := p.config.webFlags(p.o.webFlags).open("peer", e.state, !p.changed("web") && *p.config.Web == defaultWeb)
	if err != nil {
		return err
	}
	url, fingerprint := "", ""
	if web != nil {
		defer web.Close()
		url, fingerprint = web.url, web.fingerprint
	}
	s := api.New(api.Config{
		Engine: engine, Explain: told, Token: token, Roots: p.roots, Page: page.Peer(), URL: url, Fingerprint: fingerprint, Version: version, Commit: commit(), Log: log,
	})
	return p.run(ctx, engine, s, local, web)
}

// run runs all parts until ctx ends.
func (p *peerService) run(ctx context.Context, engine *daemon.Engine, s *api.Server, local net.Listener, web *webPort) error {
	hard := make(chan struct{})
	defer close(hard)
	defer context.AfterFunc(ctx, func() {
		p.notify.say("STOPPING=1")
		select {
		case <-time.After(drainTime):
			fmt.Fprintln(p.e.stderr, "something did not end in time")
			os.Exit(exitInternal)
		case <-hard:
		}
	})()
	// A peer lives for long and does little most of the time: memory is worth more than what collecting it costs.
	defer debug.SetGCPercent(debug.SetGCPercent(gcPercent))
	g, inner := errgroup.WithContext(ctx)
	g.Go(func() error { return engine.Run(inner) })
	g.Go(func() error { return s.Serve(inner, local, s.Local()) })
	if web != nil {
		g.Go(func() error { return s.Serve(inner, web.Listener, s.Web(web.hosts...)) })
	}
	g.Go(func() error {
		select {
		case <-engine.Ready():
		case <-inner.Done():
			return nil
		}
		p.announce(web)
		p.notify.say("READY=1")
		p.reloads(inner, engine)
		return nil
	})
	return g.Wait()
}

// announce says that the peer runs.
func (p *peerService) announce(web *webPort) {
	addr := ""
	if web != nil {
		addr = web.Addr().String()
	}
	switch {
	case p.e.json:
		printJSON(p.e.stdout, struct {
			V      int    `json:"v"`
			T      string `json:"t"`
			Socket string `json:"socket"`
			Web    string `json:"web,omitempty"`
		}{1, "running", api.SocketPath(p.e.state), addr})
	case !p.e.quiet:
		p.e.screen.printf("The peer runs. Ctrl-C stops it.\n")
		if addr != "" {
			web.announce(p.e, "shoal web")
		}
		p.e.screen.printf("  next:  shoal share FILE    shoal get NAME    shoal status    in another terminal\n")
	}
}

// reloads reads the configuration again at each SIGHUP. One that is wrong changes nothing.
func (p *peerService) reloads(ctx context.Context, engine *daemon.Engine) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
		}
		p.notify.reloading()
		settings, err := p.read()
		if err == nil {
			err = engine.Reload(ctx, settings)
		}
		if err != nil {
			report(p.e, err)
			p.e.screen.printf("the old configuration holds\n")
		}
		p.notify.say("READY=1")
	}
}

// read reads the configuration; flags decide where they are given.
func (p *peerService) read() (s daemon.Settings, err error) {
	c := peerConfig{}
	if p.o.config != "" {
		if c, err = readConfig(p.o.config, p.changed("config")); err != nil {
			return s, err
		}
	}
	if p.changed("listen") || c.Listen == "" {
		c.Listen = p.o.listen
	}
	if p.changed("web") || c.Web == nil {
		c.Web = &p.o.web
	}
	if p.changed("server-listen") || c.ServerListen == nil {
		c.ServerListen = &p.o.serverListen
	}
	if p.changed("folder") {
		c.Folders = p.o.folders
	}
	if p.e.swarm != "" {
		c.Swarm = p.e.swarm
	}
	if s, err = c.settings(); err != nil {
		return s, &usageError{err.Error()}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.config = c
	return s, nil
}

func (p *peerService) roots() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.config.roots()
}

// member makes a member that waits for its server. The first swarm has the port that was asked for, others have any.
func (p *peerService) member(sw *identity.Swarm, warn func(string)) (*node.Member, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	cfg := node.MemberConfig{
		Swarm: sw, Name: machineName(), Agent: agent(), Log: p.e.log(slog.LevelInfo), Cache: p.cache, Warn: warn, Patient: true,
		Closed: func(port int) { warn(closedNote(port)) },
	}
	if p.config.Listen != "" {
		addr, err := hostPort(p.config.Listen, node.DefaultPort)
		if err != nil {
			return nil, &usageError{"listen: " + err.Error()}
		}
		for other := range p.listen {
			if host, _, err := net.SplitHostPort(addr); other != sw.ID() && err == nil {
				addr = net.JoinHostPort(host, "0")
			}
		}
		p.listen[sw.ID()] = addr
		cfg.Listen = addr
	}
	return node.NewMember(cfg), nil
}

// serve runs the server of a swarm that this machine has started, unless another process does.
func (p *peerService) serve(ctx context.Context, sw *identity.Swarm, up func()) error {
	p.mu.Lock()
	listen := *p.config.ServerListen
	p.mu.Unlock()
	if listen == "" {
		return daemon.ErrNotServing
	}
	host, err := openServer(ctx, p.e, sw, listen, "", nil, slog.LevelInfo)
	if errors.Is(err, identity.ErrServing) {
		return daemon.ErrNotServing
	}
	if err != nil {
		return err
	}
	up()
	return host.serve(ctx)
}

// idle gives back the memory that work has left, and takes less from then on.
func idle(is bool) {
	if !is {
		debug.SetGCPercent(gcPercent)
		return
	}
	debug.SetGCPercent(idlePercent)
	debug.FreeOSMemory()
}

// setLimits makes rates hold for a member.
func setLimits(m *node.Member, r daemon.Rates) {
	m.SetLimits(r.Up, r.Down)
	m.SetPeerLimits(r.PeerUp, r.PeerDown)
}

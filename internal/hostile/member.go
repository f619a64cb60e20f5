package hostile

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"shoal/internal/identity"
	"shoal/internal/swarm"
	"shoal/internal/wire"

	"golang.org/x/sync/errgroup"
)

// villain is one member of the swarm. It gives on the connections that others make to it, and on one that it makes to each of them; it
// takes on more, each as another process of the same peer would.
type villain struct {
	cfg      Config
	script   script
	sw       *identity.Swarm
	instance uint64
	talks    sync.WaitGroup

	mu    sync.Mutex // guards what follows
	known map[wire.PeerID]context.CancelFunc
	made  uint64 // connections, each of another instance
}

// member joins the swarm, and is hostile to all that the server names.
func member(ctx context.Context, cfg Config) error {
	sw, err := cfg.Join(ctx)
	if err != nil {
		return err
	}
	s := scripts[cfg.Role]
	if s.life == nil {
		return stay(ctx, cfg, s, sw)
	}
	for ctx.Err() == nil {
		short, cancel := context.WithTimeout(ctx, s.life())
		err := stay(short, cfg, s, sw)
		cancel()
		if err != nil && short.Err() == nil {
			return err
		}
		rest(ctx, calm)
	}
	return nil
}

// stay is a member from its coming to its going.
func stay(ctx context.Context, cfg Config, s script, sw *identity.Swarm) error {
	v := &villain{cfg: cfg, script: s, sw: sw, instance: rand.Uint64(), known: make(map[wire.PeerID]context.CancelFunc)}
	ln, err := net.Listen("tcp", net.JoinHostPort(cfg.Host, "0"))
	if err != nil {
		return err
	}
	defer v.talks.Wait()
	g, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	client := swarm.NewV2Client(swarm.V2ClientConfig{
		Dial:     func(ctx context.Context) (*swarm.V2Link, error) { return v.dialServer(ctx, ln.Addr().String()) },
		Hello:    v.hello(v.instance, ln.Addr().(*net.TCPAddr).Port),
		Removals: func() [][]byte { return nil },
	})
	record, err := sw.SignRecord(cfg.Name, cfg.Manifest.ID, cfg.Manifest.Geo.Size)
	if err != nil {
		return err
	}
	client.Hold(cfg.Manifest.ID, cfg.Manifest.Geo.Size, true)
	client.Offer(record)
	client.Follow(cfg.Manifest.ID, true)
	g.Go(func() error {
		return client.Run(ctx, func(e swarm.V2Event) {
			if e.Peers != nil {
				v.heard(ctx, e.Peers)
			}
		})
	})
	g.Go(func() error {
		v.accept(ctx, ln)
		return nil
	})
	return g.Wait()
}

func (v *villain) hello(instance uint64, port int) wire.Hello {
	return wire.Hello{Version: 1, Agent: agent + string(v.cfg.Role), Instance: instance, Port: uint16(port)}
}

func (v *villain) dialServer(ctx context.Context, self string) (*swarm.V2Link, error) {
	var errs []error
	for _, addr := range v.sw.Servers() {
		tc, err := dial(ctx, addr, v.sw.ClientConfig(identity.Peer{Server: true}))
		if err == nil {
			return &swarm.V2Link{Conn: tc, Addrs: []string{self}}, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func dial(ctx context.Context, addr string, cfg *tls.Config) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	tc := tls.Client(conn, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return tc, nil
}

// heard begins with those who came, and leaves those alone who went.
func (v *villain) heard(ctx context.Context, m *wire.Peers) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, a := range m.Gone {
		if stop := v.known[a.ID]; stop != nil {
			stop()
			delete(v.known, a.ID)
		}
	}
	for _, a := range m.Added {
		if v.known[a.ID] != nil || a.ID == v.sw.Self() || len(a.Addrs) == 0 {
			continue
		}
		ctx, stop := context.WithCancel(ctx)
		v.known[a.ID] = stop
		if v.cfg.Side.gives() {
			v.talks.Go(func() { again(ctx, calm, func() { v.visit(ctx, a, Giving) }) })
		}
		for range v.script.holds() {
			if v.cfg.Side.takes() {
				v.talks.Go(func() { again(ctx, calm, func() { v.visit(ctx, a, Taking) }) })
			}
		}
	}
}

// visit is one connection to a peer.
func (v *villain) visit(ctx context.Context, to wire.PeerAddr, side Side) {
	tc, err := dial(ctx, to.Addrs[0], v.sw.ClientConfig(identity.Peer{ID: to.ID}))
	if err != nil {
		rest(ctx, second) // it may have cut us off
		return
	}
	v.mu.Lock()
	v.made++
	instance := v.instance + v.made
	v.mu.Unlock()
	v.talk(ctx, &talk{conn: tc, dialled: true, other: to.ID, instance: instance, side: side})
}

// accept talks to those who connect.
func (v *villain) accept(ctx context.Context, ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		v.talks.Go(func() {
			tc := tls.Server(conn, v.sw.ServerConfig())
			shaking, cancel := context.WithTimeout(ctx, dialTime)
			err := tc.HandshakeContext(shaking)
			cancel()
			id, _, whose := v.sw.PeerOf(tc.ConnectionState())
			if err != nil || whose != nil {
				conn.Close()
				return
			}
			side := Giving
			if !v.cfg.Side.gives() {
				side = Taking
			}
			v.talk(ctx, &talk{conn: tc, other: id, instance: v.instance, side: side})
		})
	}
}

// talk talks on a connection until either side ends it.
func (v *villain) talk(ctx context.Context, t *talk) {
	all := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t.v, t.ctx, t.stop = v, ctx, cancel
	defer context.AfterFunc(ctx, func() { t.conn.NetConn().Close() })()
	defer t.busy.Wait()
	defer cancel()
	if err := t.greet(); err != nil {
		if errors.Is(err, errFellow) && t.dialled {
			t.conn.Close()
			<-all.Done()
		}
		return
	}
	v.cfg.Tally.Talks.Add(1)
	if err := t.converse(); err != nil && ctx.Err() == nil && !errors.Is(err, errEnough) {
		v.cfg.Tally.Ended.Add(1)
	}
}

// agent is what the name of a hostile peer's program begins with.
const agent = "hostile "

// errFellow is a connection to another one: they leave each other alone, or they would be busy with nothing else.
var errFellow = errors.New("another hostile peer")

// pingEvery is how often a hostile peer says that it lives.
const pingEvery = 5 * time.Second

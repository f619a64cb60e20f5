package node

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"time"

	"shoal/internal/identity"
	"shoal/internal/lan"
	"shoal/internal/offence"
	"shoal/internal/peer"
	"shoal/internal/swarm"
	"shoal/internal/wire"

	"golang.org/x/sync/errgroup"
)

// maxServerConns and maxServerConnsPerAddress bound the connections of a server at once, those of its classic side not counted.
const (
	maxServerConns           = 1 << 17
	maxServerConnsPerAddress = 4096
)

// maxJoin bounds the body of a request to join, in bytes.
const maxJoin = 16 << 10

// ServerConfig says how a [Server] works.
type ServerConfig struct {
	Swarm   *identity.Swarm // whose issuer's key this machine has
	Name    string
	Agent   string
	Classic *swarm.ServerConfig // to be a classic swarm server too; nil: not
	LAN     bool                // members find it on the local network, should its address have changed
	Log     *slog.Logger
}

// Server is a swarm server: it lets members in, and knows who is there and what they have.
type Server struct {
	cfg     ServerConfig
	book    *offence.Book
	v2      *swarm.V2
	classic *swarm.Server
}

// NewServer makes a server that does nothing until it serves.
func NewServer(cfg ServerConfig) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, book: offence.NewBook(cfg.Log)}
	var classicMembers func() []netip.AddrPort
	if cfg.Classic != nil {
		s.classic = swarm.NewServer(*cfg.Classic)
		classicMembers = s.classic.Members
	}
	s.v2 = swarm.NewV2(swarm.V2Config{
		Self: cfg.Swarm.Self(), Hello: wire.Hello{Version: 1, Agent: cfg.Agent, Name: cfg.Name},
		Verify: func(r *wire.Record) (wire.PeerID, error) {
			by, _, err := cfg.Swarm.VerifyRecord(r)
			return by, err
		},
		Removed: cfg.Swarm.IsRemoved, Removals: cfg.Swarm.Removals,
		Merge: func(statements [][]byte) int {
			n, err := cfg.Swarm.Merge(statements)
			if err != nil {
				cfg.Log.Error("cannot keep removals", "err", err)
			}
			return n
		},
		Members: cfg.Swarm.Members, Classic: classicMembers, Log: cfg.Log, Book: s.book, Reach: reachMember(cfg.Swarm),
	})
	return s
}

// Serve serves until ctx ends, and closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /join", s.join)
	p := &port{tls: s.cfg.Swarm.ServerConfig(), book: s.book, log: s.cfg.Log, http: mux, gate: newGate(affordable(maxServerConns), affordable(maxServerConnsPerAddress))}
	g, ctx := errgroup.WithContext(ctx)
	p.frames = func(ctx context.Context, conn *tls.Conn, under *peer.Coalesced) {
		id, role, err := s.cfg.Swarm.PeerOf(conn.ConnectionState())
		if err != nil {
			conn.Close()
			return
		}
		s.v2.Serve(ctx, &flushed{conn, under}, id, string(role))
	}
	if s.classic != nil {
		q := newQueue(ln.Addr())
		p.classic = q.serveClassic
		g.Go(func() error { return s.classic.Serve(ctx, q) })
	}
	g.Go(func() error { return p.serve(ctx, ln) })
	g.Go(func() error { s.v2.Run(ctx); return nil })
	if at, ok := ln.Addr().(*net.TCPAddr); ok && s.cfg.LAN && !at.IP.IsLoopback() {
		g.Go(func() error { s.announce(at).Run(ctx); return nil })
	}
	return g.Wait()
}

// announce makes the server known on the local network.
func (s *Server) announce(at *net.TCPAddr) *lan.LAN {
	cfg := lan.Config{Tag: s.cfg.Swarm.LANTag(), Log: s.cfg.Log}
	cfg.Self = &lan.Service{Name: s.cfg.Swarm.LANName(s.cfg.Swarm.Self(), rand.Uint64()), Port: uint16(at.Port), Server: true}
	if !at.IP.IsUnspecified() {
		cfg.Addr = at.AddrPort().Addr().Unmap()
	}
	return lan.New(cfg)
}

// flushed is a connection whose writes leave at once.
type flushed struct {
	*tls.Conn
	under *peer.Coalesced
}

func (c *flushed) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err == nil {
		err = c.under.Flush()
	}
	return n, err
}

// join lets a machine into the swarm.
func (s *Server) join(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxJoin))
	if err != nil {
		http.Error(w, "the request is too long", http.StatusRequestEntityTooLarge)
		return
	}
	reply, err := s.cfg.Swarm.Admit(body, time.Now())
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		s.book.Note("join", r.RemoteAddr, err)
		status := http.StatusForbidden
		if errors.Is(err, identity.ErrRequest) {
			status = http.StatusBadRequest
		}
		w.WriteHeader(status)
		_, _ = w.Write(identity.EncodeJoinError(err))
		return
	}
	s.cfg.Log.Info("joined", "from", r.RemoteAddr)
	_, _ = w.Write(reply)
}

// ServerStats are figures of a server at one moment.
type ServerStats struct {
	Members int // connections of members
	Classic int // classic peers
}

// Stats returns how many are there.
func (s *Server) Stats() ServerStats {
	st := ServerStats{Members: s.v2.Count()}
	if s.classic != nil {
		st.Classic = s.classic.Stats().Entries
	}
	return st
}

// Overview returns the swarm as people are shown it.
func (s *Server) Overview() swarm.Overview {
	o := s.v2.Overview()
	if s.classic != nil {
		o.Classic = s.classic.Stats().Entries
	}
	return o
}

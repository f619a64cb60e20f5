package node

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"shoal/internal/offence"
	"shoal/internal/peer"
)

const (
	// sniffTimeout is how long a connection may be silent before its first byte.
	sniffTimeout = 10 * time.Second
	// handshakeTimeout bounds the TLS handshake.
	handshakeTimeout = 10 * time.Second
	// maxQueued bounds the connections that wait to be taken by their server.
	maxQueued = 64
)

// Reasons for which a port closes a connection.
const (
	RefusedVoice     = "unknown protocol" // the first byte is nothing that is spoken here
	RefusedSilent    = "silent"
	RefusedHandshake = "handshake"
	RefusedShort     = "cannot accept" // want of descriptors or memory: it is tried again
)

// port is one listening port with its three voices: the first byte of a connection tells classic from TLS, and in TLS the
// application protocol tells our frames from HTTP.
type port struct {
	tls     *tls.Config
	classic func(ctx context.Context, conn net.Conn)                         // nil: not spoken
	frames  func(ctx context.Context, conn *tls.Conn, under *peer.Coalesced) // shoal/2
	http    http.Handler
	book    *offence.Book
	log     *slog.Logger
	gate    *gate
}

// serve serves what comes until ctx ends.
func (p *port) serve(ctx context.Context, ln net.Listener) error {
	web := newQueue(ln.Addr())
	server := &http.Server{
		Handler: p.http, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug), BaseContext: func(net.Listener) context.Context { return ctx },
		ConnState: web.state, ConnContext: web.context,
	}
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { _ = server.Serve(web) })
	defer server.Close()
	defer web.Close()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	for {
		conn, err := ln.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // a shortage of descriptors or memory, or a peer that was gone at once
			p.book.Note(RefusedShort, "", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		from := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		pass, reason := p.gate.enter(from, conn)
		if reason != "" {
			p.book.Note(reason, conn.RemoteAddr().String(), nil)
			conn.Close()
			continue
		}
		leave := func() {
			if pass.leave() {
				p.book.Note(RefusedShed, conn.RemoteAddr().String(), nil)
			}
		}
		running.Go(func() {
			talk := p.one(ctx, conn, web, pass)
			if talk == nil {
				leave()
				return
			}
			// In a goroutine of its own: a handshake has grown the stack of this one, and it would stay so for as long as the connection.
			running.Go(func() { talk(); leave() })
		})
	}
}

// one finds out what a connection speaks, and has it served; talk, if it is not nil, is what is still to be done for that.
func (p *port) one(ctx context.Context, conn net.Conn, web *queue, pass *pass) (talk func()) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	first, sniffed, err := peer.Sniff(conn, sniffTimeout)
	switch {
	case err != nil:
		p.refuse(RefusedSilent, conn, err)
	case first <= 3 && p.classic != nil:
		stop()
		pass.known() // its own server bounds it
		p.classic(ctx, sniffed)
	case first == 0x16:
		return p.secure(ctx, sniffed, web, pass, stop)
	default:
		p.book.Note(RefusedVoice, conn.RemoteAddr().String(), nil)
		conn.Close()
	}
	return nil
}

// refuse closes a connection that has come to nothing. Who has hung up was not refused: of two ways to a server, a member drops the slower one.
// Nor was who had to make room, or ended with us.
func (p *port) refuse(reason string, conn net.Conn, err error) {
	if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		p.book.Note(reason, conn.RemoteAddr().String(), err)
	}
	conn.Close()
}

// secure serves a connection in TLS, or returns what does. Release is called when the protocol ends the connection itself: frames say bye first.
func (p *port) secure(ctx context.Context, conn net.Conn, web *queue, pass *pass, release func() bool) (talk func()) {
	under := peer.Coalesce(conn)
	tc := tls.Server(under, p.tls)
	shaking, cancel := context.WithTimeout(ctx, handshakeTimeout)
	err := tc.HandshakeContext(shaking)
	cancel()
	if err != nil {
		p.refuse(RefusedHandshake, conn, err)
		return nil
	}
	if len(tc.ConnectionState().PeerCertificates) > 0 { // a member: that was checked
		pass.known()
	}
	if tc.ConnectionState().NegotiatedProtocol == protocol {
		release()
		return func() { p.frames(ctx, tc, under) }
	}
	web.serve(ctx, tc, pass)
	return nil
}

// queue hands connections that were accepted elsewhere to a server, as a listener.
type queue struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	open  sync.Map // of net.Conn to *handed
}

// handed is what is known of a connection that was handed over.
type handed struct {
	closed chan struct{} // closed when it is
	pass   *pass
}

func newQueue(addr net.Addr) *queue {
	return &queue{addr: addr, conns: make(chan net.Conn, maxQueued), done: make(chan struct{})}
}

// serve hands a connection over, and waits until it is closed.
func (q *queue) serve(ctx context.Context, conn net.Conn, pass *pass) {
	closed := make(chan struct{})
	q.open.Store(conn, &handed{closed, pass})
	select {
	case q.conns <- conn:
	case <-q.done:
		conn.Close()
		return
	case <-ctx.Done():
		conn.Close()
		return
	}
	select {
	case <-closed:
	case <-q.done:
		conn.Close()
	}
}

// serveClassic hands a connection to a classic server, which closes it itself.
func (q *queue) serveClassic(ctx context.Context, conn net.Conn) {
	select {
	case q.conns <- conn:
	case <-q.done:
		conn.Close()
	case <-ctx.Done():
		conn.Close()
	}
}

// state is the server's word on a connection.
func (q *queue) state(conn net.Conn, st http.ConnState) {
	if st != http.StateClosed && st != http.StateHijacked {
		return
	}
	if h, ok := q.open.LoadAndDelete(conn); ok {
		close(h.(*handed).closed)
	}
}

// context lets a handler say that it knows who is there.
func (q *queue) context(ctx context.Context, conn net.Conn) context.Context {
	if h, ok := q.open.Load(conn); ok {
		return context.WithValue(ctx, passKey{}, h.(*handed).pass)
	}
	return ctx
}

func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

func (q *queue) Close() error   { q.once.Do(func() { close(q.done) }); return nil }
func (q *queue) Addr() net.Addr { return q.addr }

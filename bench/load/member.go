//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"time"

	"shoal/bench/internal/lab"
	"shoal/internal/content"
	"shoal/internal/identity"
	"shoal/internal/node"
	"shoal/internal/wire"
)

// perIdentity is how many members share a key: a server lets in only so many with one.
const perIdentity = 48

// swarm is many members of our own protocol.
type swarm struct {
	s          *server
	identities []*identity.Swarm
	members    []*member
	running    sync.WaitGroup
	mu         sync.Mutex // guards lost
	lost       error      // why a connection has ended that should not have
}

// member is one connection.
type member struct {
	conn  *tls.Conn
	mu    sync.Mutex // guards writes
	told  func(*wire.Peers)
	ended bool // that it ends is meant
}

// newSwarm makes keys for so many members, and joins with each.
func (b *bench) newSwarm(ctx context.Context, s *server, n int) (*swarm, error) {
	w := &swarm{s: s}
	link, err := identity.ParseLink(s.link)
	if err != nil {
		return nil, err
	}
	for i := range (n + perIdentity - 1) / perIdentity {
		states, err := identity.OpenStates(filepath.Join(b.dir, fmt.Sprintf("members%d-%d", b.next, i)))
		if err != nil {
			return nil, err
		}
		sw, err := node.Join(ctx, states, link, "load")
		if err != nil {
			return nil, err
		}
		w.identities = append(w.identities, sw)
	}
	return w, nil
}

// enter brings a member in.
func (w *swarm) enter(ctx context.Context, number int, told func(*wire.Peers)) (*member, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source(number))}, Timeout: 30 * time.Second}
	tcp, err := d.DialContext(ctx, "tcp4", w.s.addr)
	if err != nil {
		return nil, err
	}
	m := &member{conn: tls.Client(tcp, w.identities[number/perIdentity].ClientConfig(identity.Peer{Server: true})), told: told}
	m.conn.SetDeadline(time.Now().Add(60 * time.Second))
	err = m.conn.HandshakeContext(ctx)
	if err == nil {
		err = m.say(&wire.Hello{Version: 1, Instance: uint64(number) + 1, Agent: "load"})
	}
	for range 2 { // hello, use
		if err == nil {
			_, err = receive(m.conn)
		}
	}
	if err == nil {
		err = m.say(&wire.Enter{})
	}
	if err != nil {
		tcp.Close()
		return nil, fmt.Errorf("member %d: %w", number, err)
	}
	m.conn.SetDeadline(time.Time{})
	w.running.Go(func() {
		err := m.listen()
		w.mu.Lock()
		if w.lost == nil && !m.ended {
			w.lost = fmt.Errorf("member %d: %w", number, err)
		}
		w.mu.Unlock()
	})
	return m, nil
}

// fill brings in members until there are so many, in several goroutines.
func (w *swarm) fill(ctx context.Context, n int, told func(*wire.Peers)) error {
	const procs = 64
	members, errs := make([]*member, n), make([]error, procs)
	var wg sync.WaitGroup
	for p := range procs {
		wg.Go(func() {
			for i := p; i < n && errs[p] == nil && ctx.Err() == nil; i += procs {
				members[i], errs[p] = w.enter(ctx, i, told)
			}
		})
	}
	wg.Wait()
	for _, m := range members {
		if m != nil {
			w.members = append(w.members, m)
		}
	}
	return errors.Join(append(errs, ctx.Err())...)
}

func (w *swarm) close() error {
	w.mu.Lock()
	for _, m := range w.members {
		m.ended = true
	}
	lost := w.lost
	w.mu.Unlock()
	for _, m := range w.members {
		m.conn.NetConn().Close()
	}
	w.running.Wait()
	return lost
}

func (m *member) say(msg wire.Message) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := m.conn.Write(wire.Append(nil, msg))
	return err
}

// listen answers pings until the connection ends, and returns why it has.
func (m *member) listen() error {
	for {
		msg, err := receive(m.conn)
		if err != nil {
			return err
		}
		switch msg := msg.(type) {
		case *wire.Ping:
			if err := m.say(&wire.Pong{Number: msg.Number}); err != nil {
				return err
			}
		case *wire.Peers:
			if m.told != nil {
				m.told(msg)
			}
		case *wire.Bye:
			return fmt.Errorf("bye: %d %s", msg.Reason, msg.Text)
		}
	}
}

// receive reads a message, without a buffer that every idle member would have.
func receive(r io.Reader) (wire.Message, error) {
	var head [wire.HeaderSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	h, err := wire.ParseHeader(head[:])
	if err != nil {
		return nil, err
	}
	payload := make([]byte, h.Len)
	if _, err := io.ReadFull(r, payload); err != nil {
		return nil, err
	}
	return wire.Parse(h.Type, payload)
}

// idle measures what members of our own protocol cost that do nothing.
func idle(ctx context.Context, b *bench) error {
	fmt.Printf("\n### Idle members of our own protocol\n\n" +
		"| members | all entered after, s | a second | server CPU s for that | server MiB before, after | KiB a member | KiB a member more than the row above | server CPU s in 10 s idle |\n" +
		"| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	var above int64
	for i, n := range b.n {
		more, row, err := b.idleRow(ctx, n)
		if err != nil {
			return fmt.Errorf("%d members: %w", n, err)
		}
		slope := ""
		if i > 0 {
			slope = fmt.Sprintf("%.2f", float64(more-above)/1024/float64(n-b.n[i-1]))
		}
		above = more
		fmt.Printf("| %d | %s\n", n, fmt.Sprintf(row, slope))
	}
	return nil
}

func (b *bench) idleRow(ctx context.Context, n int) (more int64, row string, err error) {
	s, err := b.server(ctx)
	if err != nil {
		return 0, "", err
	}
	defer s.Stop()
	w, err := b.newSwarm(ctx, s, n)
	if err != nil {
		return 0, "", err
	}
	before, err := lab.Memory(s.PID())
	if err != nil {
		return 0, "", err
	}
	cpu, err := lab.CPU(s.PID())
	if err != nil {
		return 0, "", err
	}
	began := time.Now()
	if err := w.fill(ctx, n, nil); err != nil {
		return 0, "", errors.Join(err, w.close())
	}
	took := time.Since(began)
	entered, err := lab.CPU(s.PID())
	if err != nil {
		return 0, "", err
	}
	if err := lab.Sleep(ctx, b.settle); err != nil {
		return 0, "", err
	}
	after, err := lab.Memory(s.PID())
	if err != nil {
		return 0, "", err
	}
	quiet, err := lab.CPU(s.PID())
	if err != nil {
		return 0, "", err
	}
	if err := lab.Sleep(ctx, 10*time.Second); err != nil {
		return 0, "", err
	}
	idle, err := lab.CPU(s.PID())
	more = after.Now - before.Now
	row = fmt.Sprintf("%.1f | %.0f | %.1f | %.1f, %.1f | %.2f | %%s | %.2f |", took.Seconds(), float64(n)/took.Seconds(), (entered - cpu).Seconds(),
		mib(before.Now), mib(after.Now), float64(more)/1024/float64(n), (idle - quiet).Seconds())
	return more, row, errors.Join(err, w.close())
}

// flap measures how long others wait for news while one connection flaps.
func flap(ctx context.Context, b *bench) error {
	fmt.Printf("\n### News while one connection comes and goes as fast as it is let\n\n" +
		"| protocol | members | | news | median | 99 of 100 | longest | changes a second of the one who flaps |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	if err := b.flapV2(ctx); err != nil {
		return err
	}
	return b.flapClassic(ctx)
}

const flapMembers = 1000

func (b *bench) flapV2(ctx context.Context) error {
	s, err := b.server(ctx)
	if err != nil {
		return err
	}
	defer s.Stop()
	w, err := b.newSwarm(ctx, s, flapMembers+2*perIdentity)
	if err != nil {
		return err
	}
	// Who holds the content is told apart by the instance: the honest one is the last but one, the one who flaps the last.
	honest, flapper := flapMembers, flapMembers+perIdentity
	heard := make(chan time.Time, 64*flapMembers)
	told := func(p *wire.Peers) {
		for _, one := range p.Added {
			if one.Instance == uint64(honest)+1 {
				heard <- time.Now()
			}
		}
	}
	id := content.ID{1, 2, 3}
	if err := w.fill(ctx, flapMembers, told); err != nil {
		return errors.Join(err, w.close())
	}
	for _, m := range w.members {
		if err := m.say(&wire.Follow{ID: id, On: true}); err != nil {
			return err
		}
	}
	h, err := w.enter(ctx, honest, nil)
	if err != nil {
		return err
	}
	f, err := w.enter(ctx, flapper, nil)
	if err != nil {
		return err
	}
	w.members = append(w.members, h, f)
	for _, name := range []string{"alone", "beside it"} {
		changes, stop := 0, func() {}
		if name != "alone" {
			over, cancel := context.WithCancel(ctx)
			var wg sync.WaitGroup
			wg.Go(func() {
				for over.Err() == nil && f.say(&wire.Hold{ID: id, Size: 1, All: true}) == nil && f.say(&wire.Retract{ID: id}) == nil {
					changes += 2
				}
			})
			stop = func() { cancel(); _ = f.conn.NetConn().SetWriteDeadline(time.Unix(1, 0)); wg.Wait() }
			w.mu.Lock()
			f.ended = true // it may be cut off for that
			w.mu.Unlock()
		}
		began := time.Now()
		waits, err := news(ctx, heard, 100, flapMembers, func() error { return h.say(&wire.Hold{ID: id, Size: 1, All: true}) },
			func() error { return h.say(&wire.Retract{ID: id}) })
		took := time.Since(began)
		stop()
		if err != nil {
			return fmt.Errorf("v2, %s: %w", name, err)
		}
		print("v2", name, waits, float64(changes)/took.Seconds())
	}
	return w.close()
}

func print(protocol, name string, waits []time.Duration, rate float64) {
	fmt.Printf("| %s | %d | %s | %d | %v | %v | %v | %.0f |\n", protocol, flapMembers, name, len(waits), percentile(waits, 50), percentile(waits, 99), percentile(waits, 100), rate)
}

// news makes something known so often, and returns how long each time it took until everybody who hears had heard.
func news(ctx context.Context, heard chan time.Time, times, hearers int, begin, end func() error) (waits []time.Duration, err error) {
	for range times {
		for len(heard) > 0 {
			<-heard
		}
		began := time.Now()
		if err := begin(); err != nil {
			return nil, err
		}
		var last time.Time
		for range hearers {
			select {
			case last = <-heard:
			case <-time.After(20 * time.Second):
				return nil, errors.New("not everybody was told in 20 s")
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		waits = append(waits, last.Sub(began))
		if err := end(); err != nil {
			return nil, err
		}
		if err := lab.Sleep(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
	return waits, nil
}

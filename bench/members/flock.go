//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a flock waits for what it should be told.
const patience = 2 * time.Minute

// flock is many members of a swarm in one process. It belongs to one goroutine: it reads whenever it is told to wait
// for something.
type flock struct {
	server  *unix.SockaddrInet4
	epoll   int
	byFD    map[int32]*member
	events  []unix.EpollEvent
	buf     []byte
	waiting int // members that have not been told what is expected
}

// member is one connection, and what it has been told.
type member struct {
	entry  entry
	fd     int
	told   count
	want   count     // what it is expected to be told
	at     time.Time // when it was
	sum    uint64    // of the entries that it was told of and that have not left
	part   [messageSize]byte
	parts  int  // bytes of a message that has come only in part
	leaves bool // it has said remove: that its connection ends is what it wants
}

// count is how often a member is told that somebody came or went.
type count struct{ adds, removes int }

func (c count) reached(want count) bool { return c.adds >= want.adds && c.removes >= want.removes }

func newFlock(server string) (*flock, error) {
	addr, err := netip.ParseAddrPort(server)
	if err != nil {
		return nil, err
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &flock{
		server: &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}, epoll: epoll,
		byFD: make(map[int32]*member), events: make([]unix.EpollEvent, 512), buf: make([]byte, 64<<10),
	}, nil
}

// close ends all connections without a word.
func (f *flock) close() {
	for _, m := range f.byFD {
		_ = unix.Close(m.fd)
	}
	_ = unix.Close(f.epoll)
}

// connect makes a connection of a member that has not said add yet.
func (f *flock) connect(number int) (*member, error) {
	m := &member{entry: entryOf(number)}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	m.fd = fd
	if err := f.join(m); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("connect member %d: %w", number, err)
	}
	f.byFD[int32(fd)] = m
	return m, nil
}

func (f *flock) join(m *member) error {
	return errors.Join(
		// The port is chosen when the server's address is known: there are enough of them for each pair.
		unix.SetsockoptInt(m.fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
		unix.Bind(m.fd, &unix.SockaddrInet4{Addr: m.entry.address()}),
		unix.Connect(m.fd, f.server),
		unix.SetNonblock(m.fd, true),
		unix.EpollCtl(f.epoll, unix.EPOLL_CTL_ADD, m.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(m.fd)}),
	)
}

// say sends an add or a remove of the member's own.
func (m *member) say(mode byte) error {
	m.leaves = mode == modeRemove
	n, err := unix.Write(m.fd, m.entry.message(mode))
	if err == nil && n != messageSize {
		err = fmt.Errorf("wrote %d bytes of a message", n)
	}
	return err
}

// expect says how often each of the members should be told at least, since it joined.
func (f *flock) expect(members []*member, want count) {
	for _, m := range members {
		if m.told.reached(m.want) && !m.told.reached(want) {
			f.waiting++
		}
		m.want = want
	}
}

// await reads until everyone has been told what is expected.
func (f *flock) await(ctx context.Context) error {
	for deadline := time.Now().Add(patience); f.waiting > 0; {
		if err := f.read(100 * time.Millisecond); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d members were not told in %v", f.waiting, len(f.byFD), patience)
		}
	}
	return nil
}

// last returns when the last of the members was told what was expected.
func last(members []*member) (at time.Time) {
	for _, m := range members {
		if m.at.After(at) {
			at = m.at
		}
	}
	return at
}

// read takes in what has come, and waits at most that long for something to come.
func (f *flock) read(most time.Duration) error {
	n, err := unix.EpollWait(f.epoll, f.events, int(most.Milliseconds()))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return err
	}
	for _, e := range f.events[:max(n, 0)] {
		if err := f.readOne(f.byFD[e.Fd]); err != nil {
			return err
		}
	}
	return nil
}

func (f *flock) readOne(m *member) error {
	n, err := unix.Read(m.fd, f.buf[copy(f.buf, m.part[:m.parts]):])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	case m.leaves && (err != nil || n == 0):
		delete(f.byFD, int32(m.fd))
		return unix.Close(m.fd)
	case err != nil:
		return fmt.Errorf("read of member %x: %w", m.entry, err)
	case n == 0:
		return fmt.Errorf("the server closed the connection of member %x", m.entry)
	}
	before := m.told
	if err := m.take(f.buf[:m.parts+n]); err != nil {
		return err
	}
	if !before.reached(m.want) && m.told.reached(m.want) {
		f.waiting--
		m.at = time.Now()
	}
	return nil
}

// take counts the messages in b, and keeps the beginning of one at its end.
func (m *member) take(b []byte) error {
	for ; len(b) >= messageSize; b = b[messageSize:] {
		switch mode, e := parseMessage(b); mode {
		case modeAdd:
			m.told.adds++
			m.sum += uint64(e)
		case modeRemove:
			m.told.removes++
			m.sum -= uint64(e)
		default:
			return fmt.Errorf("member %x was told mode %d", m.entry, mode)
		}
	}
	m.parts = copy(m.part[:], b)
	return nil
}

// check makes sure that each member has been told of all others and nobody else, as far as a sum can say.
func check(members []*member) error {
	var all uint64
	for _, m := range members {
		all += uint64(m.entry)
	}
	for _, m := range members {
		if m.told.adds-m.told.removes != len(members)-1 || m.sum != all-uint64(m.entry) {
			return fmt.Errorf("member %x was told of %d others less %d, not of exactly all %d",
				m.entry, m.told.adds, m.told.removes, len(members)-1)
		}
	}
	return nil
}

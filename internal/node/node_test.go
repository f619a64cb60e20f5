package node

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shoal/internal/peer"
	"shoal/internal/swarm"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// swarmAt runs a server for the length of a test.
func swarmAt(t *testing.T) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- swarm.NewServer(swarm.ServerConfig{}).Serve(ctx, ln) }()
	t.Cleanup(func() { cancel(); <-done })
	return ln.Addr().String()
}

// sharer runs a node that shares a file of its own until the test ends.
func sharer(t *testing.T, server, name, content string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	n := New(Config{Server: server, Listen: "127.0.0.1:0"})
	if _, err := n.Share(path, ""); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	in, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- n.Run(ctx, func(ctx context.Context) error { close(in); <-ctx.Done(); return nil })
	}()
	<-in
	t.Cleanup(func() { cancel(); <-done; n.Close() })
}

// get downloads with a node of its own.
func get(t *testing.T, server string, req Request) (*Result, error) {
	t.Helper()
	n := New(Config{Server: server, Listen: "127.0.0.1:0"})
	defer n.Close()
	var r *Result
	err := n.Run(t.Context(), func(ctx context.Context) (err error) {
		r, err = n.NewDownload(req).Run(ctx)
		return err
	})
	return r, err
}

func TestHoldersThatDisagreeAreNeverMixed(t *testing.T) {
	server := swarmAt(t)
	sharer(t, server, "f", "same")
	sharer(t, server, "f", "same")
	sharer(t, server, "f", "another")
	dir := t.TempDir()
	_, err := get(t, server, Request{Name: "f", Dir: dir})
	var two *TwoContentsError
	if !errors.As(err, &two) || len(two.Contents) != 2 || len(two.Contents[0].Holders) != 2 {
		t.Fatalf("got %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("something was written: %v", left)
	}
	for i, want := range []string{"same", "another"} {
		target := filepath.Base(t.Name()) + want
		r, err := get(t, server, Request{Name: "f", Dir: dir, Target: target, From: two.Contents[i].Holders})
		if err != nil || r.Size != int64(len(want)) {
			t.Fatalf("%+v, %v", r, err)
		}
		if b, _ := os.ReadFile(filepath.Join(dir, target)); string(b) != want {
			t.Errorf("got %q, want %q", b, want)
		}
	}
}

func TestANameThatNobodySharesIsSaidSo(t *testing.T) {
	server := swarmAt(t)
	sharer(t, server, "f", "x")
	var missing *NotFoundError
	if _, err := get(t, server, Request{Name: "g", Dir: t.TempDir()}); !errors.As(err, &missing) || missing.Asked != 1 {
		t.Errorf("got %v", err)
	}
}

func TestWaitWaitsForSomebodyToShare(t *testing.T) {
	server := swarmAt(t)
	n := New(Config{Server: server, Listen: "127.0.0.1:0"})
	defer n.Close()
	dir := t.TempDir()
	err := n.Run(t.Context(), func(ctx context.Context) error {
		d := n.NewDownload(Request{Name: "f", Dir: dir, Wait: true})
		done := make(chan error, 1)
		go func() { _, err := d.Run(ctx); done <- err }()
		select {
		case err := <-done:
			t.Errorf("ended: %v", err)
			return err
		case <-time.After(2 * giveUpTime):
		}
		sharer(t, server, "f", "x")
		return <-done
	})
	if err != nil {
		t.Error(err)
	}
}

func TestPatienceEnds(t *testing.T) {
	server := swarmAt(t)
	_, err := get(t, server, Request{Name: "f", Dir: t.TempDir(), Wait: true, Patience: 300 * time.Millisecond})
	if !errors.Is(err, ErrNoProgress) {
		t.Errorf("got %v", err)
	}
}

func TestNoServerIsAnErrorAtOnce(t *testing.T) {
	n := New(Config{Server: "127.0.0.1:1", Listen: "127.0.0.1:0"})
	defer n.Close()
	var e *ServerError
	if err := n.Run(t.Context(), func(context.Context) error { t.Error("ran"); return nil }); !errors.As(err, &e) {
		t.Errorf("got %v", err)
	}
}

func TestAPortThatIsTakenIsAnErrorOrAnotherPort(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	n := New(Config{Server: swarmAt(t), Listen: ln.Addr().String()})
	defer n.Close()
	var e *ListenError
	if err := n.Run(t.Context(), func(context.Context) error { return nil }); !errors.As(err, &e) {
		t.Errorf("got %v", err)
	}
}

func TestANodeThatIsStoppedBeforeItEnteredReportsNoSuccess(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n := New(Config{Server: swarmAt(t), Listen: "127.0.0.1:0"})
	defer n.Close()
	if err := n.Run(ctx, func(context.Context) error { return nil }); err == nil {
		t.Error("a node that was stopped before it entered reports success")
	}
}

func TestWhatClassicCannotShare(t *testing.T) {
	n := New(Config{})
	defer n.Close()
	dir := t.TempDir()
	for _, name := range []string{"empty", strings.Repeat("n", 255), "esc\x1b"} {
		path := filepath.Join(dir, "f")
		content := []byte("x")
		if name == "empty" {
			content = nil
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Share(path, name); err == nil {
			t.Errorf("shared %q", name)
		}
	}
	if len(n.Shares()) > 0 {
		t.Errorf("%d files are shared", len(n.Shares()))
	}
}

func TestCheckAdvertise(t *testing.T) {
	for text, ok := range map[string]bool{"127.0.0.1": true, "127.1.2.3": true, "192.0.2.1": false, "::1": false} {
		if err := CheckAdvertise(netip.MustParseAddr(text)); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// What a server claims must not make us dial this machine, unless the server itself is on it.
func TestLoopbackAddressesFromElsewhereAreNotBelieved(t *testing.T) {
	n := New(Config{})
	defer n.Close()
	n.hear(swarm.Event{Kind: swarm.Entered, Addr: netip.MustParseAddrPort("10.0.0.1:1")})
	n.hear(swarm.Event{Kind: swarm.Came, Addr: netip.MustParseAddrPort("127.0.0.1:22")})
	n.hear(swarm.Event{Kind: swarm.Came, Addr: netip.MustParseAddrPort("10.0.0.2:1")})
	if got := n.Members(); len(got) != 1 || got[0].Addr().IsLoopback() {
		t.Errorf("members %v", got)
	}
}

// A holder that comes back with another file of that name is not asked for a chunk of it.
func TestAHolderThatHasAnotherFileNowIsNotUsed(t *testing.T) {
	server := swarmAt(t)
	sharer(t, server, "f", "another")
	n := New(Config{Server: server, Listen: "127.0.0.1:0"})
	defer n.Close()
	err := n.Run(t.Context(), func(ctx context.Context) error {
		n.Settled(ctx, quietTime)
		h := &holder{Holder: peer.Holder{Addr: n.Members()[0], Name: "f"}, content: peer.Answer{Chunks: 1, Last: 4}}
		return h.Fetch(ctx, 0, 0, func(uint32, int64, io.Reader) error {
			t.Error("it delivers")
			return nil
		})
	})
	if !errors.Is(err, errOtherContent) {
		t.Errorf("got %v", err)
	}
}

func TestALateHolderOfAnotherFileIsANoteAndNoSource(t *testing.T) {
	n := New(Config{})
	defer n.Close()
	notes := 0
	d := n.NewDownload(Request{Name: "f", Note: func(string, error) { notes++ }})
	s := newSearch(n, "f", nil)
	same, other := netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:1")
	s.asked[same] = &asked{answer: peer.Answer{Chunks: 2, Last: 5}}
	s.asked[other] = &asked{answer: peer.Answer{Chunks: 2, Last: 6}}
	content := &Content{Answer: peer.Answer{Chunks: 2, Last: 5}}
	if got := d.newHolders(s, content); len(got) != 1 || got[0].String() != same.String() || notes != 1 {
		t.Errorf("sources %v, %d notes", got, notes)
	}
	if got := d.newHolders(s, content); len(got) != 0 || notes != 1 {
		t.Errorf("the second time: sources %v, %d notes", got, notes)
	}
}

// Those who do not answer, asked long ago, keep nobody from those who were never asked.
func TestWhoWasNeverAskedGoesFirst(t *testing.T) {
	n := New(Config{})
	defer n.Close()
	s := newSearch(n, "f", nil)
	at := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 9, byte(i >> 8), byte(i)}), 1)
	}
	for i := range 100 {
		n.members.add(at(i))
		s.asked[at(i)] = &asked{err: errors.New("silent"), at: time.Now().Add(-time.Hour), tries: 1}
	}
	n.members.add(at(200))
	ctx, cancel := context.WithCancel(t.Context())
	defer s.wait()
	defer cancel()
	s.step(ctx, time.Nanosecond)
	if s.asked[at(200)] == nil {
		t.Error("the new one was not asked")
	}
	if s.asking > maxAsking {
		t.Errorf("%d are asked at once", s.asking)
	}
}

// One machine that is in the swarm a thousand times is asked once before all others were, and not a thousand times.
func TestOneAddressIsAskedInTurn(t *testing.T) {
	n := New(Config{})
	defer n.Close()
	s := newSearch(n, "f", nil)
	crowd, honest := netip.AddrFrom4([4]byte{127, 9, 0, 1}), 0
	for port := range uint16(1000) {
		n.members.add(netip.AddrPortFrom(crowd, port+1))
	}
	for i := range 3 * maxAsking {
		n.members.add(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 10, 0, byte(i + 1)}), 1))
	}
	all, _, _ := n.members.watch()
	for range 4 {
		for _, a := range s.next(all) {
			s.asked[a] = &asked{pending: true}
			s.at[a.Addr()]++
			if a.Addr() != crowd {
				honest++
			}
		}
	}
	if want := 3 * maxAsking; honest != want || s.at[crowd] != maxAsking {
		t.Errorf("in four rounds %d of %d were asked, and %d times the crowd", honest, want, s.at[crowd])
	}
}

// A server may name what it likes: some addresses are nobody's, and this machine's own are dialled only if the server is here.
func TestWhatAServerMayHaveOneDial(t *testing.T) {
	m := &Member{}
	for addr, want := range map[string]bool{
		"10.0.0.1:5": true, "[2001:db8::1]:5": true, "[::ffff:10.0.0.1]:5": true, "192.168.1.1:50002": true,
		"10.0.0.1:0": false, "0.0.0.0:5": false, "[::]:5": false, "[::ffff:0.0.0.0]:5": false, "0.0.0.1:5": false, "169.254.169.254:80": false,
		"[::ffff:169.254.169.254]:80": false, "[fe80::1%eth0]:5": false, "224.0.0.1:5": false, "[ff02::1]:5": false, "255.255.255.255:5": false, "240.0.0.1:5": false,
		"127.0.0.1:5": false, "[::1]:5": false, "[::ffff:127.0.0.1]:5": false, "127.9.9.9:5": false,
		"victim.example:5": false, "10.0.0.1": false, "": false,
	} {
		if got := m.mayDial(addr); got != want {
			t.Errorf("%q: %v", addr, got)
		}
	}
	m.local.Store(true)
	if !m.mayDial("127.0.0.1:5") || m.mayDial("0.0.0.0:5") {
		t.Error("with a server on this machine")
	}
}

func TestASearchEndsWhenAllHaveAnsweredOnce(t *testing.T) {
	n := New(Config{})
	defer n.Close()
	s := newSearch(n, "f", nil)
	a, b := netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:1")
	n.members.add(a)
	n.members.add(b)
	s.asked[a] = &asked{at: time.Now(), tries: 1}
	if s.everyoneAnswered(0) {
		t.Error("one was not even asked")
	}
	s.asked[b] = &asked{pending: true, tries: 1}
	if s.everyoneAnswered(0) {
		t.Error("one has not answered")
	}
	s.asked[b] = &asked{pending: true, at: time.Now(), tries: 2}
	if !s.everyoneAnswered(0) {
		t.Error("all have answered; that one is asked again is no reason to wait")
	}
	s.began = time.Now().Add(-2 * unrestTime)
	if !s.everyoneAnswered(time.Hour) {
		t.Error("a swarm that is never quiet keeps the search from its end")
	}
}

func TestAnswersAreGroupedByWhatTheySay(t *testing.T) {
	s := newSearch(New(Config{}), "f", nil)
	at := func(n byte) netip.AddrPort { return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, n}), 1) }
	for n, chunks := range []uint32{2, 3, 2, 0, 3, 2} {
		s.asked[at(byte(n))] = &asked{answer: peer.Answer{Chunks: chunks, Last: min(chunks, 1)}}
	}
	got := s.contents()
	if len(got) != 2 || len(got[0].Holders) != 3 || got[0].Chunks != 2 || len(got[1].Holders) != 2 {
		t.Errorf("%+v", got)
	}
}

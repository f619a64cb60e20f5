package daemon

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"shoal/internal/content"
	"shoal/internal/identity"
	"shoal/internal/node"
	"shoal/internal/store"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lab is a swarm for the length of a test.
type lab struct {
	t      *testing.T
	server *identity.Swarm
	addr   string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	states, err := identity.OpenStates(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	sw, err := states.Create()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := sw.SetServers([]string{ln.Addr().String()}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- node.NewServer(node.ServerConfig{Swarm: sw}).Serve(ctx, ln) }()
	t.Cleanup(func() { cancel(); <-done })
	return &lab{t, sw, ln.Addr().String()}
}

// machine is a state folder that has joined the swarm.
func (l *lab) machine() string {
	l.t.Helper()
	dir := filepath.Join(l.t.TempDir(), "state")
	states, err := identity.OpenStates(dir)
	if err != nil {
		l.t.Fatal(err)
	}
	token, _, err := l.server.NewToken(identity.MemberRole, time.Hour, 0, time.Now())
	if err != nil {
		l.t.Fatal(err)
	}
	if _, err := node.Join(l.t.Context(), states, identity.Link{Addrs: []string{l.addr}, Swarm: l.server.ID(), Token: token}, "test"); err != nil {
		l.t.Fatal(err)
	}
	return dir
}

// running is an engine that runs.
type running struct {
	*Engine
	stop func() // as often as one likes
}

// run runs an engine on a state folder until the test ends, or stop is called.
func (l *lab) run(dir string, s Settings) *running {
	l.t.Helper()
	states, err := identity.OpenStates(dir)
	if err != nil {
		l.t.Fatal(err)
	}
	cache := store.OpenCache(filepath.Join(dir, "hashes"))
	e := New(Config{
		Dir: dir, States: states, Name: "test", Cache: cache, Settings: s,
		NewMember: func(sw *identity.Swarm, warn func(string)) (*node.Member, error) {
			return node.NewMember(node.MemberConfig{Swarm: sw, Listen: "127.0.0.1:0", Cache: cache, Warn: warn, Patient: true}), nil
		},
		Explain: func(err error) *Failure { return &Failure{Code: "E-TEST", What: err.Error()} },
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	stopped := false
	r := &running{e, func() {
		cancel()
		if !stopped {
			stopped = true
			if err := <-done; err != nil {
				l.t.Error(err)
			}
		}
	}}
	l.t.Cleanup(r.stop)
	<-e.Ready()
	return r
}

func (l *lab) file(size int) (path string, b []byte) {
	b = make([]byte, size)
	rand.Read(b)
	path = filepath.Join(l.t.TempDir(), "f.bin")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		l.t.Fatal(err)
	}
	return path, b
}

// becomes waits until a transfer is in a state.
func (r *running) becomes(t *testing.T, id string, want State) Row {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		d, err := r.Detail(t.Context(), id)
		if err == nil && d.State == want {
			return d.Row
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %+v, %v, failure %v; want %s", id, d.Row, err, d.Failure, want)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (l *lab) share(r *running, path string) Row {
	l.t.Helper()
	row, err := r.AddShare(l.t.Context(), ShareRequest{Path: path})
	if err != nil {
		l.t.Fatal(err)
	}
	return r.becomes(l.t, row.ID, Seeding)
}

func TestSharesAndDownloadsSurviveARestart(t *testing.T) {
	l := newLab(t)
	path, want := l.file(3 << 20)
	stateA, stateB, dir := l.machine(), l.machine(), t.TempDir()
	a, b := l.run(stateA, Settings{}), l.run(stateB, Settings{})
	shared := l.share(a, path)
	got, err := b.AddDownload(t.Context(), DownloadRequest{What: "f.bin", Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	done := b.becomes(t, got.ID, Complete)
	if have, _ := os.ReadFile(filepath.Join(dir, "f.bin")); !bytes.Equal(have, want) || done.Content != shared.Content || done.Size != 3<<20 {
		t.Errorf("the file differs: %+v", done)
	}
	a.stop()
	b.stop()
	b = l.run(stateB, Settings{})
	again := b.becomes(t, got.ID, Complete)
	if again.Path != filepath.Join(dir, "f.bin") {
		t.Errorf("%+v", again)
	}
	// It gives what it has fetched, in its second life.
	c, dirC := l.run(l.machine(), Settings{}), t.TempDir()
	row, err := c.AddDownload(t.Context(), DownloadRequest{What: shared.Content[:16], Dir: dirC, Target: "g"})
	if err != nil {
		t.Fatal(err)
	}
	c.becomes(t, row.ID, Complete)
	if have, _ := os.ReadFile(filepath.Join(dirC, "g")); !bytes.Equal(have, want) {
		t.Error("the third file differs")
	}
}

func TestAPausedTransferStaysPausedAndGoesOn(t *testing.T) {
	l := newLab(t)
	path, _ := l.file(1 << 20)
	state := l.machine()
	a := l.run(state, Settings{})
	row := l.share(a, path)
	if p, err := a.Pause(t.Context(), row.ID); err != nil || p.State != Paused {
		t.Fatal(p.State, err)
	}
	a.stop()
	a = l.run(state, Settings{})
	a.becomes(t, row.ID, Paused)
	b := l.run(l.machine(), Settings{})
	dir := t.TempDir()
	got, err := b.AddDownload(t.Context(), DownloadRequest{What: "f.bin", Dir: dir, Wait: true})
	if err != nil {
		t.Fatal(err)
	}
	b.becomes(t, got.ID, Waiting)
	if _, err := a.Resume(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	b.becomes(t, got.ID, Complete)
}

func TestRemoveKeepsDataUnlessAsked(t *testing.T) {
	l := newLab(t)
	path, _ := l.file(1 << 20)
	a, b := l.run(l.machine(), Settings{}), l.run(l.machine(), Settings{})
	shared := l.share(a, path)
	if err := a.Remove(t.Context(), shared.ID, true); !errors.Is(err, ErrNotOurs) {
		t.Errorf("the data of a share: %v", err)
	}
	for _, data := range []bool{false, true} {
		dir := t.TempDir()
		row, err := b.AddDownload(t.Context(), DownloadRequest{What: "f.bin", Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		b.becomes(t, row.ID, Complete)
		if err := b.Remove(t.Context(), row.ID, data); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, "f.bin")); (err == nil) == data {
			t.Errorf("data %v: %v", data, err)
		}
		if _, err := b.Detail(t.Context(), row.ID); !errors.Is(err, ErrNoTransfer) {
			t.Error(err)
		}
	}
	if err := a.Remove(t.Context(), shared.ID, false); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestOneContentUnderTwoNamesIsGivenUntilTheLastIsRemoved(t *testing.T) {
	l := newLab(t)
	path, want := l.file(200_000)
	twin := filepath.Join(t.TempDir(), "twin.bin")
	if err := os.WriteFile(twin, want, 0o600); err != nil {
		t.Fatal(err)
	}
	a, b := l.run(l.machine(), Settings{}), l.run(l.machine(), Settings{})
	first := l.share(a, path)
	l.share(a, twin)
	if err := a.Remove(t.Context(), first.ID, false); err != nil {
		t.Fatal(err)
	}
	row, err := b.AddDownload(t.Context(), DownloadRequest{What: "twin.bin", Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	b.becomes(t, row.ID, Complete)
	// What this peer has already it does not fetch.
	row, err = a.AddDownload(t.Context(), DownloadRequest{What: "twin.bin", Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	a.becomes(t, row.ID, Failed)
}

func TestAChangedFileIsNotSharedAfterARestartUnlessTheUserSaysSo(t *testing.T) {
	l := newLab(t)
	path, _ := l.file(100_000)
	state := l.machine()
	a := l.run(state, Settings{})
	row := l.share(a, path)
	a.stop()
	if err := os.WriteFile(path, []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	a = l.run(state, Settings{})
	a.becomes(t, row.ID, Changed)
	if _, err := a.Resume(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	if now := a.becomes(t, row.ID, Seeding); now.Content == row.Content || now.Size != 7 {
		t.Errorf("%+v", now)
	}
}

func TestAPeerWithoutAServerWaitsForIt(t *testing.T) {
	l := newLab(t)
	state := l.machine()
	states, _ := identity.OpenStates(state)
	all, _ := states.List()
	if err := all[0].SetServers([]string{"127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	a := l.run(state, Settings{})
	path, _ := l.file(1000)
	l.share(a, path) // hashed, and offered once there is a server
	st, err := a.Stats(t.Context(), false)
	if err != nil || len(st.Swarms) != 1 || st.Swarms[0].State != "away" {
		t.Errorf("%+v, %v", st.Swarms, err)
	}
}

func TestTheStateFileIsReadOrRefused(t *testing.T) {
	dir := t.TempDir()
	if l, err := load(dir); err != nil || len(l.Transfers) != 0 {
		t.Error(l, err)
	}
	want := list{Transfers: []Record{{ID: "x", Kind: Share, Name: "n\xff", Added: time.Unix(5, 0).UTC()}}}
	if err := want.store(dir); err != nil {
		t.Fatal(err)
	}
	if l, err := load(dir); err != nil || len(l.Transfers) != 1 || l.Transfers[0].ID != "x" {
		t.Error(l, err)
	}
	for text, want := range map[string]error{`{"version":2}`: ErrStateNewer, `{`: ErrState, `{}`: ErrState, `{"version":1,"transfers":[{"id":5}]}`: ErrState} {
		if err := os.WriteFile(filepath.Join(dir, stateFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := load(dir); !errors.Is(err, want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// What a later version has written is not touched: the peer ends, and says so.
func TestTheListOfALaterVersionIsLeftAlone(t *testing.T) {
	l := newLab(t)
	dir := l.machine()
	later := []byte(`{"version":2,"transfers":[{"id":"x","kind":"something new"}]}`)
	path := filepath.Join(dir, stateFile)
	if err := os.WriteFile(path, later, 0o600); err != nil {
		t.Fatal(err)
	}
	states, err := identity.OpenStates(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := New(Config{Dir: dir, States: states}).Run(t.Context()); !errors.Is(err, ErrStateNewer) {
		t.Errorf("it runs: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, later) {
		t.Errorf("it is %q now, %v", b, err)
	}
}

func TestEventsAreASnapshotAndThenChanges(t *testing.T) {
	l := newLab(t)
	path, _ := l.file(100_000)
	a := l.run(l.machine(), Settings{})
	s, err := a.Subscribe(t.Context(), 0, false)
	if err != nil || s.Whole == nil || len(s.Whole.Transfers) != 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	l.share(a, path)
	var last uint64
	for last == 0 {
		if ev := <-s.C; ev.Type == "transfer" && bytes.Contains(ev.Data, []byte(`"state":"seeding"`)) {
			last = ev.Number
		}
	}
	a.Unsubscribe(s)
	back, err := a.Subscribe(t.Context(), last-1, true)
	if err != nil || back.Whole != nil || len(back.Missed) == 0 || back.Missed[0].Number != last {
		t.Errorf("%+v, %v", back, err)
	}
	late, err := a.Subscribe(t.Context(), last+100_000, true) // of another life
	if err != nil || late.Whole == nil || len(late.Whole.Transfers) != 1 {
		t.Errorf("%+v, %v", late, err)
	}
	var all []*Subscription
	for range MaxSubscribers {
		if s, err := a.Subscribe(t.Context(), 0, false); err == nil {
			all = append(all, s)
		} else if !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
	}
	if len(all) != MaxSubscribers-2 {
		t.Errorf("%d more were let in", len(all))
	}
}

func TestASubscriberWhoDoesNotReadIsDropped(t *testing.T) {
	h := hub{subs: make(map[*Subscription]bool)}
	s, _ := h.subscribe(0, false, func() *Snapshot { return &Snapshot{} })
	for range maxWaiting + 5000 {
		h.publish("log", Line{})
	}
	n := 0
	for range s.C {
		n++
	}
	if n != maxWaiting || len(h.subs) != 0 || len(h.ring) > 2*maxEvents {
		t.Errorf("%d events, %d subscribers, a ring of %d", n, len(h.subs), len(h.ring))
	}
	if old, _ := h.subscribe(10, true, func() *Snapshot { return &Snapshot{} }); old.Whole == nil {
		t.Error("who was away for too long is told only a part")
	}
}

func TestColumns(t *testing.T) {
	have := make([]bool, 5000)
	for i := range 2500 {
		have[i] = true
	}
	have[4999] = true
	p := columns(have, 64)
	total := 0
	for _, run := range p.Have {
		total += run[0]
	}
	if p.Columns != 2048 || total != 2048 || p.Have[0] != [2]int{1024, 100} || p.Have[1] != [2]int{1023, 0} || p.Have[2][1] < 1 || p.Have[2][1] > 50 {
		t.Errorf("%+v", p)
	}
	if p := columns(nil, 64); p.Columns != 0 || len(p.Have) != 0 {
		t.Errorf("%+v", p)
	}
	_ = content.ID{}
}

func TestHistoryIsBounded(t *testing.T) {
	var h history
	h.add(0, 0)
	if h.ring != nil {
		t.Error("silence takes memory")
	}
	for i := range 1000 {
		h.add(float64(i), 1)
	}
	if s := h.speed(); len(s.Down) != historyLen || s.Down[historyLen-1] != 999 || s.Down[0] != 700 {
		t.Errorf("%d, from %v to %v", len(s.Down), s.Down[0], s.Down[len(s.Down)-1])
	}
	for range historyLen {
		h.add(0, 0)
	}
	if h.ring != nil {
		t.Error("long silence takes memory")
	}
}

func TestLimitsOfAMoment(t *testing.T) {
	day, night := Rates{Up: 1}, Rates{Up: 2}
	l := Limits{Rates: Rates{Up: 9}, Windows: []Window{
		{Rates: day, Days: []time.Weekday{1, 2, 3, 4, 5}, From: 8 * 60, To: 18 * 60},
		{Rates: night, Days: []time.Weekday{5}, From: 22 * 60, To: 6 * 60},
	}}
	at := func(day, hour, minute int) time.Time {
		return time.Date(2026, 11, 22+day, hour, minute, 0, 0, time.UTC)
	} // 22: a Sunday
	for _, c := range []struct {
		when time.Time
		want int64
	}{{at(1, 8, 0), 1}, {at(1, 7, 59), 9}, {at(1, 18, 0), 9}, {at(0, 12, 0), 9}, {at(5, 23, 0), 2}, {at(6, 5, 59), 2}, {at(6, 6, 0), 9}, {at(6, 23, 0), 9}} {
		if got := l.At(c.when); got.Up != c.want {
			t.Errorf("%v: %d, want %d", c.when, got.Up, c.want)
		}
	}
	if (Limits{Rates: Rates{Up: -1}}).Check() == nil || (Limits{Windows: []Window{{From: -1}}}).Check() == nil {
		t.Error("nonsense is taken")
	}
	if d, err := ParseDays("fri-mon, wed"); err != nil || len(d) != 5 {
		t.Error(d, err)
	}
	if _, err := ParseDays("monday"); err == nil {
		t.Error("monday is no day here")
	}
}

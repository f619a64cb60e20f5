//go:build linux

package e2e_test

import (
	"bytes"
	"context"
	"path/filepath"
	"strconv"
	"testing"

	"shoal/internal/hostile"
	"shoal/internal/identity"
	"shoal/internal/node"
	"shoal/internal/store"
)

// attack runs a hostile peer until the test ends.
func attack(t *testing.T, cfg hostile.Config) *hostile.Tally {
	t.Helper()
	did := &hostile.Tally{}
	cfg.Tally = did
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- hostile.Run(ctx, cfg) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return did
}

// joins returns what joins the swarm of a link, each time as another machine.
func joins(t *testing.T, text string) func(context.Context) (*identity.Swarm, error) {
	t.Helper()
	link, err := identity.ParseLink(text)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return func(ctx context.Context) (*identity.Swarm, error) {
		states, err := identity.OpenStates(filepath.Join(dir, strconv.FormatInt(states.Add(1), 10)))
		if err != nil {
			return nil, err
		}
		return node.Join(ctx, states, link, "hostile")
	}
}

// smallMemory is what a process of a small swarm may use, whatever others do to it.
func smallMemory() int64 {
	if raceEnabled {
		return 512 << 20 // the detector's own
	}
	return 96 << 20
}

// Every kind of liar at once, on both sides: those who are honest have the file, and stay as small as they are.
func TestASwarmOfProcessesWithEveryHostilePeerHasItsFile(t *testing.T) {
	t.Parallel()
	a := newHost(t, nil)
	path, want := a.file("f.img", 4<<20)
	share, link := a.share(path, "--limit-up", "4MiB/s")
	memory := []func() int64{share.mostMemory()}
	m, err := store.Hash(t.Context(), bytes.NewReader(want), int64(len(want)), 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	did := attack(t, hostile.Config{Role: hostile.Mixed, Name: "f.img", Manifest: m, Join: joins(t, link)})
	eventually(t, "the attack begins", func() bool { return did.Talks.Load() > 10 && did.Bombs.Load() > 0 })
	var gets []*process
	var hosts []host
	for range 2 {
		h := newHost(t, nil)
		get := h.shoal("get", link, "-o", h.dir, "--stay", "--listen", "127.0.0.1:0")
		gets, hosts, memory = append(gets, get), append(hosts, h), append(memory, get.mostMemory())
	}
	for i, get := range gets {
		get.await("done", is("done"))
		sameContent(t, hosts[i].path("f.img"), path)
	}
	for i, most := range memory {
		if most() > smallMemory() {
			t.Errorf("process %d used %d bytes of memory, at most %d may be", i, most(), smallMemory())
		}
	}
	if !share.running() || did.Asked.Load() == 0 {
		t.Errorf("the source runs: %v; %d requests were made to those who lie", share.running(), did.Asked.Load())
	}
}

// The classic protocol knows no identities and no hashes: there the takers' turn is what a sharer withstands.
func TestAClassicSharerWithstandsEveryHostileTaker(t *testing.T) {
	t.Parallel()
	path := file(t, chunk+1)
	name := filepath.Base(path)
	s := newSwarm(t)
	share := s.share(path)
	memory := share.mostMemory()
	did := attack(t, hostile.Config{Role: hostile.Mixed, Side: hostile.Taking, Classic: s.addr, Name: name, Size: chunk + 1})
	eventually(t, "the attack begins", func() bool { return did.Talks.Load() > 50 && did.Bombs.Load() > 5 })
	dir := t.TempDir()
	s.get(name, dir).succeeds()
	sameContent(t, filepath.Join(dir, name), path)
	if most := smallMemory(); memory() > most || !share.running() {
		t.Errorf("it used %d bytes of memory, at most %d may be", memory(), most)
	}
}

//go:build linux

package e2e_test

import (
	"bytes"
	"os/exec"
	"testing"
	"time"
)

// A limit holds over all that a process gives, to whom and how ever: two files to two machines, and one over HTTP. Only that it is
// not faster is asserted: how slow a machine is says nothing.
func TestAProcessGivesNoMoreThanItsLimit(t *testing.T) {
	t.Parallel()
	_, err := exec.LookPath("curl")
	require(t, err == nil, "the tool curl")
	const size, limit = 6 << 20, 3 << 20
	source := newHost(t, nil)
	a, want := source.file("a.img", size)
	b, _ := source.file("b.img", size)
	began := time.Now()
	p := source.shoal("share", a, b, "--http", "--limit-up", "3MiB/s", "--server-listen", ownAddress()+":0", "--listen", "127.0.0.1:0")
	links := map[string]string{}
	for len(links) < 2 {
		e := p.await("link", func(e event) bool { return e.T == "link" && links[e.Name] == "" })
		links[e.Name] = e.Link
	}
	web := p.await("http", func(e event) bool { return e.T == "http" && e.Name == "a.img" })
	one, two := newHost(t, nil), newHost(t, nil)
	first, second := one.get(links["a.img"]), two.get(links["b.img"])
	got, err := exec.Command("curl", "-sS", "--fail", "--cacert", web.CACert, "--resolve", web.Resolve, "-H", "Authorization: Bearer "+web.Token, web.URL).Output()
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("over HTTP come %d bytes, not those of the file: %v", len(got), err)
	}
	first.succeeds()
	second.succeeds()
	sameContent(t, one.path("a.img"), a)
	sameContent(t, two.path("b.img"), b)
	if took, least := time.Since(began), 3*size*time.Second/limit*8/10; took < least {
		t.Errorf("%d bytes at %d/s took %v, less than %v", 3*size, limit, took, least)
	}
}

// A download limited to less than what comes takes its time, and a classic one too.
func TestADownloadKeepsToItsLimit(t *testing.T) {
	t.Parallel()
	const size, limit = 6 << 20, 2 << 20
	least := size * time.Second / limit * 8 / 10
	source, reader := newHost(t, nil), newHost(t, nil)
	path, _ := source.file("a.img", size)
	_, link := source.share(path)
	began := time.Now()
	reader.get(link, "--limit-down", "2MiB/s").succeeds()
	if took := time.Since(began); took < least {
		t.Errorf("%d bytes at %d/s took %v", size, limit, took)
	}
	sameContent(t, reader.path("a.img"), path)

	old := newSwarm(t)
	old.share(path)
	began = time.Now()
	old.get("a.img", t.TempDir(), "--limit-down", "16Mbit/s").succeeds()
	if took := time.Since(began); took < least {
		t.Errorf("a classic one: %d bytes at %d/s took %v", size, limit, took)
	}
	old = newSwarm(t)
	old.share(path, "--limit-up", "2MiB/s")
	began = time.Now()
	old.get("a.img", t.TempDir()).succeeds()
	if took := time.Since(began); took < least {
		t.Errorf("from a limited classic peer: %d bytes at %d/s took %v", size, limit, took)
	}
}

package node

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"shoal/internal/content"
	"shoal/internal/identity"
)

// Those who come at the same moment find each other, since each is there before it knows anything of the content.
func TestWhoFetchesIsThereBeforeItKnowsTheManifest(t *testing.T) {
	l := newLab(t)
	a, b := l.run(l.machine(identity.MemberRole)), l.run(l.machine(identity.MemberRole))
	id := content.ID{1, 2, 3}
	record, err := a.cfg.Swarm.SignRecord("f.img", id, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	a.client.Hold(id, 1<<20, true) // and has nothing: nobody will ever know the manifest
	a.client.Offer(record)
	eventually(t, "it is offered", func() bool {
		entries, err := b.List(t.Context())
		return err == nil && len(entries) == 1
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := b.NewFetch(FetchRequest{Name: "f.img", Dir: t.TempDir()}).Run(ctx)
		ended <- err
	}()
	eventually(t, "the one who fetches it counts as a holder", func() bool {
		entries, err := a.List(t.Context())
		return err == nil && len(entries) == 1 && entries[0].Holders == 2
	})
	stop()
	if err := <-ended; err == nil {
		t.Fatal("a content that nobody has was fetched")
	}
}

func TestBodiesAreBounded(t *testing.T) {
	l := newLab(t)
	m := l.run(l.machine(identity.MemberRole))
	path, want := l.file(1000)
	shared, err := m.Share(t.Context(), path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := m.cfg.Swarm.HTTPToken()
	if err != nil {
		t.Fatal(err)
	}
	get := func() *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, "/content/"+shared.Manifest.ID.String(), nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		m.contents().ServeHTTP(w, r)
		return w
	}
	m.bodies.Store(maxBodies)
	if w := get(); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("one body more than may be served at once: %d", w.Code)
	}
	m.bodies.Add(-1)
	if w := get(); w.Code != http.StatusOK || w.Body.String() != string(want) {
		t.Errorf("the last body that may be: %d", w.Code)
	}
	if n := m.bodies.Load(); n != maxBodies-1 {
		t.Errorf("%d bodies count as being served, want %d", n, maxBodies-1)
	}
}

// Who has no token learns nothing, not even whether a content is here; nor does one with a token learn the name of a file by asking for it.
func TestWhoMayNotReadLearnsNotWhatIsHere(t *testing.T) {
	l := newLab(t)
	m := l.run(l.machine(identity.MemberRole))
	path, _ := l.file(1000)
	shared, err := m.Share(t.Context(), path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := m.cfg.Swarm.HTTPToken()
	if err != nil {
		t.Fatal(err)
	}
	get := func(what, auth string) string {
		r := httptest.NewRequest(http.MethodGet, "/content/"+what, nil)
		if auth != "" {
			r.Header.Set("Authorization", auth)
		}
		w := httptest.NewRecorder()
		m.contents().ServeHTTP(w, r)
		return fmt.Sprint(w.Code, w.Header(), w.Body)
	}
	here, elsewhere := shared.Manifest.ID.String(), content.ID{1}.String()
	for _, auth := range []string{"", "Bearer ", "Bearer " + token[1:], "Basic " + token, "Bearer " + token + "x"} {
		want := get(elsewhere, auth)
		if !strings.HasPrefix(want, "401 ") {
			t.Errorf("with %q: %s", auth, want)
		}
		for _, what := range []string{here, "f.bin", "..%2f..%2fetc%2fpasswd"} {
			if got := get(what, auth); got != want {
				t.Errorf("with %q %s is answered with %s, what is not there with %s", auth, what, got, want)
			}
		}
	}
	if got := get(here, "Bearer "+token); !strings.HasPrefix(got, "200 ") {
		t.Errorf("with the token: %s", got)
	}
	for _, what := range []string{elsewhere, "f.bin", "%2fetc%2fpasswd", "..%2f" + here} {
		if got := get(what, "Bearer "+token); !strings.HasPrefix(got, "404 ") {
			t.Errorf("%s: %s", what, got)
		}
	}
}

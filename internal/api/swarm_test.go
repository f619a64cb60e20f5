package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"shoal/internal/content"
	"shoal/internal/daemon"
	"shoal/internal/swarm"

	"github.com/getkin/kin-openapi/openapi3"
)

// newSwarmLab serves a swarm of two behind both doors.
func newSwarmLab(t *testing.T) (l *lab, s *SwarmServer) {
	t.Helper()
	o := swarm.Overview{
		Up: time.Minute, Members: 2, Contents: 1, Joined: 3, Left: 1, Completed: 1,
		There:     []swarm.SeenMember{{Name: "a", Role: "member", Holds: 1, Whole: 1}, {Name: "b", Role: "member", Holds: 1, Addrs: []string{"10.0.0.1:50002"}}},
		Contained: []swarm.SeenContent{{ID: content.ID{1}, Size: 5, Holders: 2, Seeds: 1}},
		Holds:     []swarm.SeenHold{{Member: 0, Content: 0, All: true}, {Member: 1, Content: 0}},
		News:      []swarm.News{{Time: time.Now(), What: swarm.NewsCompleted, Name: "a", Content: "x"}},
	}
	s = NewSwarm(SwarmConfig{
		Overview: func() swarm.Overview { return o }, Explain: func(err error) *daemon.Failure { return &daemon.Failure{What: err.Error()} }, Token: token,
		Page: fstest.MapFS{"index.html": {Data: []byte("<p>hi")}}, URL: "http://x", Swarm: "abc", Name: "n", Version: "1",
	})
	l = &lab{t: t, local: httptest.NewServer(s.Local()), web: httptest.NewUnstartedServer(nil)}
	l.web.Config.Handler = s.Web(Hosts(l.web.Listener)...)
	l.web.Start()
	var err error
	if l.doc, err = openapi3.NewLoader().LoadFromData(swarmDocument); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.local.Close(); l.web.Close(); http.DefaultClient.CloseIdleConnections() })
	return l, s
}

func TestTheSwarmServersDocument(t *testing.T) {
	l, s := newSwarmLab(t)
	if err := l.doc.Validate(t.Context(), openapi3.EnableExamplesValidation()); err != nil {
		t.Error(err)
	}
	var described []string
	for path, item := range l.doc.Paths.Map() {
		for method := range item.Operations() {
			described = append(described, method+" "+path)
		}
	}
	slices.Sort(described)
	if served := slices.Sorted(slices.Values(s.patterns)); !slices.Equal(described, served) {
		t.Errorf("described: %v\nserved: %v", described, served)
	}
	for name, v := range map[string]any{"SwarmView": SwarmView{}, "ViewMember": ViewMember{}, "ViewContent": ViewContent{}, "ViewNews": ViewNews{}} {
		schema := l.doc.Components.Schemas[name].Value
		for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
			if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); schema.Properties[tag] == nil {
				t.Errorf("%s has no %s in the document", name, tag)
			}
		}
		if n := reflect.TypeOf(v).NumField(); n != len(schema.Properties) {
			t.Errorf("%s has %d fields, and %d in the document", name, n, len(schema.Properties))
		}
	}
	for _, path := range []string{"/healthz", "/api/v1/swarm"} {
		l.valid("GET", path, "", path, 200)
	}
	var v SwarmView
	if err := json.Unmarshal(l.valid("GET", "/api/v1/swarm", "", "/api/v1/swarm", 200), &v); err != nil {
		t.Fatal(err)
	}
	if v.Members != 2 || len(v.There) != 2 || v.There[0].Addrs == nil || v.Holds[0] != [3]int{0, 0, 1} || v.Holds[1] != [3]int{1, 0, 0} || v.Contained[0].Names == nil {
		t.Errorf("%+v", v)
	}
	l.valid("POST", "/api/v1/logins", "{}", "/api/v1/logins", 201)
}

// The page of a swarm server has the same doors as that of a peer.
func TestStrangersDoNotSeeTheSwarm(t *testing.T) {
	l, _ := newSwarmLab(t)
	bearer := "Bearer " + token
	for what, try := range map[string]struct {
		want    int
		headers []string
	}{
		"with the token": {200, []string{"Authorization", bearer}},
		"without":        {401, nil},
		"another token":  {401, []string{"Authorization", "Bearer " + strings.Repeat("0", 64)}},
		"another host":   {421, []string{"Authorization", bearer, "Host", "evil.test"}},
		"another origin": {403, []string{"Authorization", bearer, "Origin", "http://evil.test"}},
		"another site":   {403, []string{"Authorization", bearer, "Sec-Fetch-Site", "cross-site"}},
	} {
		if a := l.ask(l.web.URL, "GET", "/api/v1/swarm", "", try.headers...); a.status != try.want {
			t.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
	if a := l.ask(l.web.URL, "POST", "/api/v1/logins", "{}", "Authorization", bearer); a.status != 403 {
		t.Errorf("a link over the network: %d", a.status)
	}
	var link Login
	if err := json.Unmarshal(l.ask(l.local.URL, "POST", "/api/v1/logins", "{}").body, &link); err != nil {
		t.Fatal(err)
	}
	path := strings.TrimPrefix(link.URL, "http://x")
	a := l.ask(l.web.URL, "GET", path, "")
	set := a.header.Get("Set-Cookie")
	if a.status != 303 || !strings.HasPrefix(set, "shoal-server=") || !strings.Contains(set, "HttpOnly") || !strings.Contains(set, "SameSite=Strict") {
		t.Fatalf("%d %s", a.status, set)
	}
	pair, _, _ := strings.Cut(set, ";")
	if a := l.ask(l.web.URL, "GET", "/api/v1/swarm", "", "Cookie", pair); a.status != 200 {
		t.Errorf("with the cookie: %d", a.status)
	}
	if a := l.ask(l.web.URL, "GET", path, ""); a.status != 403 {
		t.Errorf("the link works twice: %d", a.status)
	}
}

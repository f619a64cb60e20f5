package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"shoal/internal/daemon"
	"shoal/internal/identity"
	"shoal/internal/node"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// lab is a peer in a swarm of its own, with its two doors.
type lab struct {
	t     *testing.T
	s     *Server
	local *httptest.Server
	web   *httptest.Server
	root  string
	swarm string
	doc   *openapi3.T
}

func newLab(t *testing.T) *lab {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	states, err := identity.OpenStates(dir)
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
	explain := func(err error) *daemon.Failure { return &daemon.Failure{Code: "E-TEST", Exit: 3, What: err.Error()} }
	e := daemon.New(daemon.Config{
		Dir: dir, States: states, Name: "test", Version: "1", Explain: explain,
		NewMember: func(sw *identity.Swarm, warn func(string)) (*node.Member, error) {
			return node.NewMember(node.MemberConfig{Swarm: sw, Listen: "127.0.0.1:0", Warn: warn, Patient: true}), nil
		},
		Serve: func(ctx context.Context, sw *identity.Swarm, up func()) error {
			up()
			return node.NewServer(node.ServerConfig{Swarm: sw}).Serve(ctx, ln)
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	<-e.Ready()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, root: root, swarm: sw.ID().String()}
	l.s = New(Config{
		Engine: e, Explain: explain, Token: token, Roots: func() []string { return []string{root} }, Version: "1", Commit: "c", URL: "http://x",
		Page: fstest.MapFS{"index.html": {Data: []byte("<p>hi")}, "app.js": {Data: []byte("1")}},
	})
	l.local = httptest.NewServer(l.s.Local())
	l.web = httptest.NewUnstartedServer(nil)
	l.web.Config.Handler = l.s.Web(Hosts(l.web.Listener)...)
	l.web.Start()
	if l.doc, err = openapi3.NewLoader().LoadFromData(document); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.local.Close()
		l.web.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return l
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// ask sends a request. Headers are pairs; Host is one.
func (l *lab) ask(base, method, path, body string, headers ...string) answer {
	l.t.Helper()
	req, err := http.NewRequestWithContext(l.t.Context(), method, base+path, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		if req.Header.Set(headers[i], headers[i+1]); headers[i] == "Host" {
			req.Host = headers[i+1]
		}
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, b}
}

// valid asks over the socket, and holds the answer against the document.
func (l *lab) valid(method, path, body, pattern string, status int) []byte {
	l.t.Helper()
	a := l.ask(l.local.URL, method, path, body)
	if a.status != status {
		l.t.Fatalf("%s %s: %d %s, want %d", method, path, a.status, a.body, status)
	}
	op := l.doc.Paths.Value(pattern).GetOperation(method)
	resp := op.Responses.Status(status)
	if resp == nil {
		resp = op.Responses.Default()
	}
	for kind, media := range resp.Value.Content {
		if got := a.header.Get("Content-Type"); got != kind {
			l.t.Errorf("%s %s: it is %s, the document says %s", method, path, got, kind)
		}
		var v any
		if err := json.Unmarshal(a.body, &v); err != nil {
			l.t.Fatal(err)
		}
		if err := media.Schema.Value.VisitJSON(v); err != nil {
			l.t.Errorf("%s %s: %s\n%v", method, path, a.body, err)
		}
	}
	return a.body
}

// seeding shares a file, and waits until it is given.
func (l *lab) seeding(name string, size int) string {
	l.t.Helper()
	path := filepath.Join(l.root, name)
	if err := os.WriteFile(path, bytes.Repeat([]byte(name), size), 0o600); err != nil {
		l.t.Fatal(err)
	}
	req, _ := json.Marshal(daemon.ShareRequest{Path: path})
	var row daemon.Row
	if err := json.Unmarshal(l.valid("POST", "/api/v1/shares", string(req), "/api/v1/shares", 201), &row); err != nil {
		l.t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var d daemon.Detail
		if err := json.Unmarshal(l.valid("GET", "/api/v1/transfers/"+row.ID, "", "/api/v1/transfers/{id}", 200), &d); err != nil {
			l.t.Fatal(err)
		}
		if d.State == daemon.Seeding {
			return row.ID
		}
		if time.Now().After(end) {
			l.t.Fatalf("%+v", d)
		}
	}
}

func TestTheDocumentIsValidAndHasAllRoutes(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context(), openapi3.EnableExamplesValidation()); err != nil {
		t.Error(err)
	}
	var described []string
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			described = append(described, method+" "+path)
		}
	}
	slices.Sort(described)
	served := slices.Sorted(slices.Values(New(Config{}).patterns))
	if !slices.Equal(described, served) {
		t.Errorf("described: %v\nserved: %v", described, served)
	}
}

// Every field of every type that is sent or received is in the document, and no other.
func TestTheDocumentHasAllFields(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]any{
		"Failure": daemon.Failure{}, "Problem": problem{}, "Row": daemon.Row{}, "Detail": daemon.Detail{}, "Pieces": daemon.Pieces{}, "Neighbour": daemon.Neighbour{},
		"Speed": daemon.Speed{}, "Line": daemon.Line{}, "Lines": Lines{}, "Transfers": Transfers{}, "Rates": daemon.Rates{}, "Limits": daemon.Limits{},
		"Window": daemon.Window{}, "SwarmRow": daemon.SwarmRow{}, "Swarms": Swarms{}, "Stats": daemon.Stats{}, "Snapshot": daemon.Snapshot{},
		"ShareRequest": daemon.ShareRequest{}, "DownloadRequest": daemon.DownloadRequest{}, "LinkText": LinkText{}, "LinkRequest": LinkRequest{}, "File": File{},
		"Files": Files{}, "Member": Member{}, "Members": Members{}, "Entry": Entry{}, "Folder": Folder{}, "Health": Health{}, "Login": Login{},
	}
	for name, schema := range doc.Components.Schemas {
		v, ok := types[name]
		if !ok {
			t.Errorf("%s is in the document, and no type of ours", name)
			continue
		}
		want := make(map[string]bool)
		for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
			tag, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.Anonymous {
				continue
			}
			want[tag] = true
			if optional := rest != ""; optional == slices.Contains(schema.Value.Required, tag) {
				t.Errorf("%s.%s: required in one, optional in the other", name, tag)
			}
			if schema.Value.Properties[tag] == nil {
				t.Errorf("%s has no %s in the document", name, tag)
			}
		}
		for field := range schema.Value.Properties {
			if !want[field] {
				t.Errorf("%s has no %s but in the document", name, field)
			}
		}
		delete(types, name)
	}
	for name := range types {
		t.Errorf("%s is not in the document", name)
	}
}

func TestAnswersAreAsTheDocumentSays(t *testing.T) {
	l := newLab(t)
	id := l.seeding("a.img", 100)
	one := "/api/v1/transfers/" + id
	for _, path := range []string{"status", "log", "transfers", "limits", "swarms"} {
		l.valid("GET", "/api/v1/"+path, "", "/api/v1/"+path, 200)
	}
	l.valid("GET", "/healthz", "", "/healthz", 200)
	l.valid("GET", "/readyz", "", "/readyz", 200)
	l.valid("GET", "/api/v1/folders?path="+l.root, "", "/api/v1/folders", 200)
	l.valid("GET", "/api/v1/folders", "", "/api/v1/folders", 200)
	files := l.valid("GET", "/api/v1/swarms/"+l.swarm[:8]+"/files", "", "/api/v1/swarms/{swarm}/files", 200)
	if !bytes.Contains(files, []byte(`"name":"a.img"`)) {
		t.Errorf("%s", files)
	}
	members := l.valid("GET", "/api/v1/swarms/"+l.swarm+"/members", "", "/api/v1/swarms/{swarm}/members", 200)
	if !bytes.Contains(members, []byte(`"self":true`)) {
		t.Errorf("%s", members)
	}
	link := l.valid("POST", "/api/v1/swarms/"+l.swarm+"/links", `{"transfer":"`+id+`"}`, "/api/v1/swarms/{swarm}/links", 201)
	if !bytes.Contains(link, []byte("/a.img~")) {
		t.Errorf("%s", link)
	}
	l.valid("POST", "/api/v1/swarms", string(link), "/api/v1/swarms", 201) // it is in it
	l.valid("POST", one+"/pause", "{}", "/api/v1/transfers/{id}/pause", 200)
	l.valid("POST", one+"/resume", "{}", "/api/v1/transfers/{id}/resume", 200)
	l.valid("PUT", "/api/v1/limits", `{"up":5,"down":6,"windows":[{"days":[1],"from":0,"to":60,"up":1,"down":2}]}`, "/api/v1/limits", 200)
	l.valid("GET", "/api/v1/limits", "", "/api/v1/limits", 200)
	l.valid("DELETE", "/api/v1/limits", "{}", "/api/v1/limits", 200)
	l.valid("POST", "/api/v1/downloads", fmt.Sprintf(`{"what":"nix","dir":%q,"wait":true}`, l.root), "/api/v1/downloads", 201)
	l.valid("POST", "/api/v1/logins", "{}", "/api/v1/logins", 201)
	l.valid("GET", "/api/v1/transfers/nix", "", "/api/v1/transfers/{id}", 404)
	l.valid("POST", "/api/v1/shares", `{"path":"relative"}`, "/api/v1/shares", 400)
	l.valid("POST", "/api/v1/shares", `{"path":"/x","what":1}`, "/api/v1/shares", 400)
	l.valid("POST", "/api/v1/shares", `{} {}`, "/api/v1/shares", 400)
	l.valid("PUT", "/api/v1/limits", `{"up":-1}`, "/api/v1/limits", 404) // what Explain makes of it here
	l.valid("DELETE", one, "{}", "/api/v1/transfers/{id}", 204)
	if a := l.ask(l.local.URL, "GET", "/metrics", ""); a.status != 200 || !bytes.Contains(a.body, []byte(`shoal_transfers{state="waiting"} 1`)) {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// Whoever is not let in learns nothing, and changes nothing.
func TestStrangersAreRefused(t *testing.T) {
	l := newLab(t)
	bearer := "Bearer " + token
	host := strings.TrimPrefix(l.web.URL, "http://")
	_, port, _ := net.SplitHostPort(host)
	share := fmt.Sprintf(`{"path":%q}`, filepath.Join(l.root, "f"))
	if err := os.WriteFile(filepath.Join(l.root, "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	key := l.s.keys.make()
	in := l.ask(l.web.URL, "GET", "/login?key="+key, "")
	session := strings.Split(in.header.Get("Set-Cookie"), ";")[0]
	if in.status != 303 || !strings.Contains(in.header.Get("Set-Cookie"), "HttpOnly; SameSite=Strict") || strings.Contains(session, token) {
		t.Fatalf("%d %v", in.status, in.header)
	}
	for _, c := range []struct {
		name, method, path, body string
		headers                  []string
		want                     int
	}{
		{"no token", "GET", "/api/v1/status", "", nil, 401},
		{"no token for metrics", "GET", "/metrics", "", nil, 401},
		{"wrong token", "GET", "/api/v1/status", "", []string{"Authorization", "Bearer " + token[1:]}, 401},
		{"wrong cookie", "GET", "/api/v1/status", "", []string{"Cookie", "shoal=" + token}, 401},
		{"token", "GET", "/api/v1/status", "", []string{"Authorization", bearer}, 200},
		{"cookie", "GET", "/api/v1/status", "", []string{"Cookie", session}, 200},
		{"a key works once", "GET", "/login?key=" + key, "", nil, 403},
		{"no key", "GET", "/login", "", nil, 403},
		{"foreign host", "GET", "/api/v1/status", "", []string{"Authorization", bearer, "Host", "evil.example:" + port}, 421},
		{"foreign host, nothing to hide", "GET", "/healthz", "", []string{"Host", "evil.example:" + port}, 421},
		{"another port", "GET", "/healthz", "", []string{"Host", "localhost:1"}, 421},
		{"localhost", "GET", "/healthz", "", []string{"Host", "LOCALHOST:" + port}, 200},
		{"foreign origin", "GET", "/api/v1/status", "", []string{"Cookie", session, "Origin", "http://evil.example"}, 403},
		{"null origin", "POST", "/api/v1/shares", share, []string{"Cookie", session, "Origin", "null"}, 403},
		{"another port's origin", "POST", "/api/v1/shares", share, []string{"Cookie", session, "Origin", "http://127.0.0.1:1"}, 403},
		{"cross-site", "GET", "/api/v1/status", "", []string{"Cookie", session, "Sec-Fetch-Site", "cross-site"}, 403},
		{"cross-site navigation to the API", "GET", "/api/v1/status", "", []string{"Cookie", session, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, 403},
		{"a link elsewhere to the page", "GET", "/", "", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, 200},
		{"cookie alone must not change", "POST", "/api/v1/shares", share, []string{"Cookie", session}, 403},
		{"the page may", "POST", "/api/v1/shares", share, []string{"Cookie", session, "Origin", l.web.URL}, 201},
		{"a form", "POST", "/api/v1/shares", share, []string{"Cookie", session, "Origin", l.web.URL, "Content-Type", "text/plain"}, 415},
		{"pause without JSON", "POST", "/api/v1/transfers/x/pause", "", []string{"Authorization", bearer}, 415},
		{"remove without JSON", "DELETE", "/api/v1/transfers/x", "", []string{"Authorization", bearer}, 415},
		{"too large", "POST", "/api/v1/shares", `{"path":"` + strings.Repeat("x", maxBody) + `"}`, []string{"Authorization", bearer}, 413},
		{"outside the roots", "POST", "/api/v1/shares", `{"path":"/etc/passwd"}`, []string{"Authorization", bearer}, 403},
		{"outside, and not there", "POST", "/api/v1/shares", `{"path":"/etc/nix"}`, []string{"Authorization", bearer}, 403},
		{"dots", "POST", "/api/v1/shares", fmt.Sprintf(`{"path":%q}`, l.root+"/../../etc/passwd"), []string{"Authorization", bearer}, 403},
		{"download to elsewhere", "POST", "/api/v1/downloads", `{"what":"x","dir":"/etc"}`, []string{"Authorization", bearer}, 403},
		{"list elsewhere", "GET", "/api/v1/folders?path=/etc", "", []string{"Authorization", bearer}, 403},
		{"list a root", "GET", "/api/v1/folders?path=" + l.root, "", []string{"Authorization", bearer}, 200},
		{"links to log in are made here alone", "POST", "/api/v1/logins", "{}", []string{"Authorization", bearer}, 403},
		{"no such thing", "GET", "/api/v1/nix", "", []string{"Authorization", bearer}, 404},
		{"no such method", "PATCH", "/api/v1/limits", "{}", []string{"Authorization", bearer}, 404},
		{"no such page", "GET", "/..%2f..%2fetc/passwd", "", nil, 404},
	} {
		a := l.ask(l.web.URL, c.method, c.path, c.body, c.headers...)
		if a.status != c.want {
			t.Errorf("%s: %d %s, want %d", c.name, a.status, a.body, c.want)
		}
		if a.header.Get("Access-Control-Allow-Origin") != "" || !strings.HasPrefix(a.header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: headers %v", c.name, a.header)
		}
		var p problem
		if a.status >= 400 && (json.Unmarshal(a.body, &p) != nil || p.Code == "" || p.What == "" || p.Status != a.status) {
			t.Errorf("%s: %s", c.name, a.body)
		}
	}
	// A symbolic link out of the root leads nowhere.
	if err := os.Symlink("/etc", filepath.Join(l.root, "out")); err != nil {
		t.Fatal(err)
	}
	if a := l.ask(l.web.URL, "GET", "/api/v1/folders?path="+l.root+"/out", "", "Authorization", bearer); a.status != 403 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := l.ask(l.web.URL, "GET", "/app.js", ""); a.status != 200 || a.header.Get("ETag") == "" || !strings.Contains(a.header.Get("Content-Type"), "javascript") {
		t.Errorf("%d %v", a.status, a.header)
	}
}

// stream reads events.
type stream struct {
	t    *testing.T
	resp *http.Response
	in   *bufio.Scanner
}

func (l *lab) stream(last string) *stream {
	l.t.Helper()
	req, _ := http.NewRequestWithContext(l.t.Context(), "GET", l.local.URL+"/api/v1/events", nil)
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { resp.Body.Close() })
	in := bufio.NewScanner(resp.Body)
	in.Buffer(nil, 1<<20)
	return &stream{l.t, resp, in}
}

// next returns the next event.
func (s *stream) next() (id, kind, data string) {
	s.t.Helper()
	for s.in.Scan() {
		name, value, _ := strings.Cut(s.in.Text(), ": ")
		switch name {
		case "id":
			id = value
		case "event":
			kind = value
		case "data":
			data = value
		case "":
			if kind != "" {
				return id, kind, data
			}
		}
	}
	s.t.Fatal("the stream has ended: ", s.in.Err())
	return
}

func TestEventsGoOnWhereTheyEnded(t *testing.T) {
	l := newLab(t)
	s := l.stream("")
	if _, kind, data := s.next(); kind != "snapshot" || !strings.Contains(data, `"transfers":[`) {
		t.Fatal(kind, data)
	}
	l.seeding("a.img", 10)
	last, seen := "", ""
	for !strings.Contains(seen, `"state":"seeding"`) {
		last = strings.Clone(last)
		id, kind, data := s.next()
		if kind == "transfer" {
			if seen = data; !strings.Contains(seen, `"state":"seeding"`) {
				last = id
			}
		} else if last == "" {
			last = id
		}
	}
	s.resp.Body.Close()
	if last == "" {
		t.Fatal("no event came before")
	}
	again := l.stream(last)
	for seen = ""; !strings.Contains(seen, `"state":"seeding"`); {
		_, kind, data := again.next()
		if kind == "snapshot" {
			t.Fatal("all is told again")
		}
		seen = data
	}
	for _, other := range []string{"another-5", "x", last + "0000000"} {
		if _, kind, _ := l.stream(other).next(); kind != "snapshot" {
			t.Errorf("%s: %s", other, kind)
		}
	}
}

func TestSubscribersAreBounded(t *testing.T) {
	l := newLab(t)
	for range daemon.MaxSubscribers {
		s := l.stream("")
		s.next()
	}
	if a := l.ask(l.local.URL, "GET", "/api/v1/events", ""); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// Who opens a stream and does not read is cut off; the others go on.
func TestASlowReaderDoesNotHoldUpOthers(t *testing.T) {
	l := newLab(t)
	conn, err := net.Dial("tcp", l.local.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetReadBuffer(4096)
	fmt.Fprintf(conn, "GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
	id := l.seeding("a.img", 10)
	for range 300 { // some events each
		l.valid("POST", "/api/v1/transfers/"+id+"/pause", "{}", "/api/v1/transfers/{id}/pause", 200)
		l.valid("POST", "/api/v1/transfers/"+id+"/resume", "{}", "/api/v1/transfers/{id}/resume", 200)
	}
	s := l.stream("")
	if _, kind, _ := s.next(); kind != "snapshot" {
		t.Error(kind)
	}
}

func TestMetricsAreCleanAndFew(t *testing.T) {
	l := newLab(t)
	l.seeding("a.img", 10)
	problems, err := testutil.GatherAndLint(l.s.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "shoal_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	n, err := testutil.GatherAndCount(l.s.registry)
	if err != nil || n > 300 {
		t.Errorf("%d series, %v", n, err)
	}
}

func TestTheTokenIsKeptAndItsOwnersAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	a, err := LoadToken(dir)
	if err != nil || len(a) != 64 {
		t.Fatal(a, err)
	}
	if b, err := LoadToken(dir); err != nil || a != b {
		t.Error(b, err)
	}
	if fi, err := os.Stat(filepath.Join(dir, "web-token")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Error(fi, err)
	}
}

func TestTheSocketIsForItsOwner(t *testing.T) {
	dir := t.TempDir()
	if Dial(t.Context(), SocketPath(dir)) != nil {
		t.Error("a peer where none is")
	}
	for range 2 { // the second finds what a killed one has left
		ln, err := Listen(SocketPath(dir))
		if err != nil {
			t.Fatal(err)
		}
		if fi, err := os.Stat(SocketPath(dir)); err != nil || fi.Mode().Perm() != 0o600 {
			t.Error(fi, err)
		}
		server := &http.Server{Handler: http.NotFoundHandler()}
		done := make(chan error, 1)
		go func() { done <- server.Serve(ln) }()
		c := Dial(t.Context(), SocketPath(dir))
		if c == nil {
			t.Fatal("nobody answers")
		}
		resp, err := c.Get("http://shoal/")
		if err != nil || resp.StatusCode != 404 {
			t.Error(resp, err)
		}
		resp.Body.Close()
		c.CloseIdleConnections()
		server.Close()
		<-done
	}
	if _, err := Listen("/" + strings.Repeat("x", 200)); err == nil {
		t.Error("too long a path is taken")
	}
}

// The dashboard and the alerts use nothing that does not exist.
func TestWhatIsDeployedUsesMetricsThatExist(t *testing.T) {
	l := newLab(t)
	if a := l.ask(l.local.URL, "GET", "/login", ""); a.status != 403 {
		t.Errorf("%d", a.status)
	}
	exist := make(map[string]bool)
	families, err := l.s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		exist[f.GetName()] = true
	}
	for _, d := range []string{descRefused.String(), descFree.String(), descSize.String()} { // series that come with what is counted
		exist[regexp.MustCompile(`fqName: "([^"]+)"`).FindStringSubmatch(d)[1]] = true
	}
	for _, file := range []string{"grafana-dashboard.json", "prometheus-alerts.yml"} {
		b, err := os.ReadFile(filepath.Join("../../deploy", file))
		if err != nil {
			t.Fatal(err)
		}
		used := regexp.MustCompile(`\b(shoal|process)_[a-z_]+\b`).FindAllString(string(b), -1)
		if len(used) < 5 {
			t.Errorf("%s uses only %v", file, used)
		}
		for _, name := range used {
			if !exist[name] {
				t.Errorf("%s uses %s, which does not exist", file, name)
			}
		}
	}
}

package api

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"shoal/internal/content"
	"shoal/internal/daemon"
	"shoal/internal/identity"
	"shoal/internal/swarm"
)

// desk is a server without a peer behind it: what is refused before anything is done needs none. It has the name host.
func desk(page fs.FS) *Server {
	return New(Config{
		Engine: struct{ Engine }{}, Token: token, Page: page, URL: "http://host",
		Explain: func(err error) *daemon.Failure { return &daemon.Failure{Code: "E-TEST", Exit: 2, What: err.Error()} },
	})
}

// at asks a handler. Headers are pairs.
func at(h http.Handler, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/", strings.NewReader(body))
	r.URL, r.RequestURI, r.Host = &url.URL{Path: path}, path, "host"
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// What is sent with every answer, also with a refusal: a browser runs nothing, frames nothing, and asks nobody but us for the page's sake.
func TestWhatABrowserIsForbidden(t *testing.T) {
	h := desk(fstest.MapFS{"index.html": {Data: []byte("<p>")}}).Web("host")
	for _, path := range []string{"/", "/nix", "/api/v1/status", "/healthz", "/login"} {
		got := at(h, "GET", path, "").Header()
		directives := strings.Split(got.Get("Content-Security-Policy"), "; ")
		for _, want := range []string{
			"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'",
			"require-trusted-types-for 'script'",
		} {
			if !slices.Contains(directives, want) {
				t.Errorf("%s: no %s in %q", path, want, directives)
			}
		}
		for _, d := range directives {
			for _, wide := range []string{"unsafe", "*", "http:", "https:", "blob:"} {
				if strings.Contains(d, wide) {
					t.Errorf("%s: %s", path, d)
				}
			}
		}
		for name, want := range map[string]string{
			"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got.Get(name) != want {
				t.Errorf("%s: %s is %q", path, name, got.Get(name))
			}
		}
	}
}

// A browser that asks whether another page may ask is not told that it may, whatever it says; nor is anything but HTTP spoken.
func TestNobodyIsAllowedAcrossOrigins(t *testing.T) {
	h := desk(nil).Web("host")
	for _, origin := range []string{"http://evil.test", "null", "http://host", "https://host.evil.test", ""} {
		for _, path := range []string{"/api/v1/status", "/api/v1/shares", "/api/v1/events", "/", "/metrics"} {
			headers := []string{"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization", "Authorization", "Bearer " + token}
			if origin != "" {
				headers = append(headers, "Origin", origin)
			}
			w := at(h, "OPTIONS", path, "", headers...)
			if w.Code < 400 {
				t.Errorf("OPTIONS %s from %q: %d", path, origin, w.Code)
			}
			for name := range w.Header() {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("OPTIONS %s from %q: %s", path, origin, name)
				}
			}
		}
	}
	w := at(h, "GET", "/api/v1/nix", "", "Authorization", "Bearer "+token, "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13",
		"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	if w.Code != 404 {
		t.Errorf("a web socket: %d", w.Code)
	}
}

// What changes something cannot be had by a method that browsers send without asking.
func TestAGetChangesNothing(t *testing.T) {
	s := desk(nil)
	reads := map[string]bool{}
	for _, p := range s.patterns {
		if path, is := strings.CutPrefix(p, "GET "); is {
			reads[path] = true
		}
	}
	changes := 0
	for _, p := range s.patterns {
		method, path, _ := strings.Cut(p, " ")
		if method == "GET" || reads[path] { // what a GET of those reads, a test of the document knows
			continue
		}
		changes++
		for _, method := range []string{"GET", "HEAD"} {
			for _, h := range []http.Handler{s.Web("host"), s.Local()} {
				if w := at(h, method, path, "{}", "Authorization", "Bearer "+token, "Content-Type", "application/json"); w.Code != 404 {
					t.Errorf("%s %s: %d", method, path, w.Code)
				}
			}
		}
	}
	if changes < 6 {
		t.Errorf("only %d routes change something", changes)
	}
}

// Whatever is asked for: it is a file of the page, byte for byte, or nothing.
func FuzzFiles(f *testing.F) {
	for _, p := range []string{
		"/", "/app.js", "/../app.js", "/..%2fetc/passwd", `/..\..\etc\passwd`, "//etc/passwd", "/app.js/", "/a/../app.js", "/app.js::$DATA", "/./app.js", "/app.js\x00.png",
		"/%2e%2e/%2e%2e/etc/passwd", "/sub/x.css", "/sub", "/C:/x", "/proc/self/environ", "",
	} {
		f.Add(p)
	}
	files := fstest.MapFS{"index.html": {Data: []byte("<p>index")}, "app.js": {Data: []byte("the script")}, "sub/x.css": {Data: []byte("the style")}}
	h := desk(files).Web("host")
	f.Fuzz(func(t *testing.T, path string) {
		w := at(h, "GET", path, "")
		switch w.Code {
		case http.StatusOK:
			if b := w.Body.String(); path != "/healthz" && b != "<p>index" && b != "the script" && b != "the style" {
				t.Errorf("%q: %q", path, b)
			}
		case http.StatusNotFound, http.StatusUnauthorized, http.StatusForbidden, http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusBadRequest,
			http.StatusTooManyRequests:
		default:
			t.Errorf("%q: %d", path, w.Code)
		}
		if to := w.Header().Get("Location"); to != "" && (!strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//")) {
			t.Errorf("%q leads to %q", path, to)
		}
	})
}

// A guesser gets a few looks, and then one a second. The page, which has a cookie, and the socket are not shut out by it.
func TestGuessesBecomeRare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSwarm(SwarmConfig{Token: token, Overview: func() swarm.Overview { return swarm.Overview{} }})
		h := s.Web("host")
		ask := func(name, value string) *httptest.ResponseRecorder {
			return at(h, "GET", "/api/v1/swarm", "", name, value)
		}
		looked := 0
		for i := range 1000 {
			switch w := ask("Authorization", fmt.Sprintf("Bearer %064d", i)); w.Code {
			case http.StatusUnauthorized:
				looked++
			case http.StatusTooManyRequests:
				if w.Header().Get("Retry-After") == "" {
					t.Error("it does not say when to come again")
				}
			default:
				t.Fatal(w.Code, w.Body)
			}
		}
		if looked != guessBurst {
			t.Errorf("%d guesses were looked at, want %d", looked, guessBurst)
		}
		if w := ask("Authorization", "Bearer "+token); w.Code != http.StatusTooManyRequests {
			t.Errorf("a guess that is right is told to be, in the midst of them: %d", w.Code)
		}
		if w := ask("Cookie", "shoal-server="+s.session()); w.Code != 200 {
			t.Errorf("the page is shut out: %d", w.Code)
		}
		if w := at(s.Local(), "GET", "/api/v1/swarm", ""); w.Code != 200 {
			t.Errorf("this machine's owner is shut out: %d", w.Code)
		}
		time.Sleep(2 * time.Second)
		for range 100 { // what is right costs nothing
			if w := ask("Authorization", "Bearer "+token); w.Code != 200 {
				t.Fatalf("later: %d", w.Code)
			}
		}
		for i := range 100 {
			ask("Cookie", fmt.Sprint("shoal-server=", i))
		}
		if w := ask("Cookie", "shoal-server="+s.session()); w.Code != http.StatusTooManyRequests {
			t.Errorf("cookies are guessed without end: %d", w.Code)
		}
	})
}

// pipes is a listener in memory.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	ended chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), ended: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.ended) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// What a request costs is bounded in bytes and in time, however it is sent. Fake time.
func TestARequestHasAnEnd(t *testing.T) {
	head := "POST /api/v1/shares HTTP/1.1\r\nHost: host\r\nContent-Type: application/json\r\nAuthorization: Bearer " + token + "\r\n"
	drip := func(c net.Conn, b []byte, every time.Duration) {
		for i := range b {
			time.Sleep(every)
			if _, err := c.Write(b[i : i+1]); err != nil {
				return
			}
		}
	}
	deep := strings.Repeat("[", 30_000)
	idle := time.Minute + time.Second // what was read whole leaves the connection for another request
	for name, c := range map[string]struct {
		send   func(c net.Conn)
		status string // empty: none
		within time.Duration
		most   int64 // bytes that are taken
	}{
		"no word":             {func(net.Conn) {}, "", 11 * time.Second, 0},
		"a header that drips": {func(c net.Conn) { drip(c, []byte(head+"\r\n{}"), time.Second) }, "400", 11 * time.Second, 100},
		"a body that drips": {func(c net.Conn) {
			io.WriteString(c, head+"Content-Length: 1000\r\n\r\n")
			drip(c, []byte(deep), time.Second)
		}, "400", 40 * time.Second, 1000},
		"a million headers":  {func(c net.Conn) { io.WriteString(c, head+strings.Repeat("X: y\r\n", 1_000_000)+"\r\n") }, "431", time.Second, 64 << 10},
		"a header of a mega": {func(c net.Conn) { io.WriteString(c, head+"X: "+strings.Repeat("y", 1<<20)+"\r\n\r\n") }, "431", time.Second, 64 << 10},
		"a body without end": {func(c net.Conn) {
			io.WriteString(c, head+"Content-Length: 10000000000\r\n\r\n{\"path\":\"")
			_, _ = io.Copy(c, endless{})
		}, "413", time.Minute, 1 << 20},
		"a deep body": {func(c net.Conn) { fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n%s", head, len(deep), deep) }, "400", idle, 64 << 10},
		"a deep body in field": {func(c net.Conn) {
			b := `{"path":` + deep
			fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n%s", head, len(b), b)
		}, "400", idle, 64 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, ln := desk(nil), newPipes()
				ctx, stop := context.WithCancel(t.Context())
				served := make(chan error, 1)
				go func() { served <- s.Serve(ctx, ln, s.Web("host")) }()
				ours, theirs := net.Pipe()
				counted := &counting{Conn: theirs}
				ln.conns <- counted
				began := time.Now()
				var sending sync.WaitGroup
				sending.Go(func() { c.send(ours) })
				got, _ := io.ReadAll(ours)
				took := time.Since(began)
				ours.Close()
				sending.Wait()
				if status, _, _ := strings.Cut(strings.TrimPrefix(string(got), "HTTP/1.1 "), " "); status != c.status {
					t.Errorf("it is answered %q, want %q", got, c.status)
				}
				if took > c.within || counted.n > c.most {
					t.Errorf("it took %v and %d bytes, at most %v and %d", took, counted.n, c.within, c.most)
				}
				stop()
				if err := <-served; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

// counting counts what is read. Only the server's goroutine of the connection reads, and it has ended when the count is looked at.
type counting struct {
	net.Conn
	n int64
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n += int64(n)
	return n, err
}

// What a proxy says of whom it asks for, or somebody in its place, lets nobody in; and no request hides another.
func TestHeadersOfProxiesAreNotBelieved(t *testing.T) {
	l := newLab(t)
	host := strings.TrimPrefix(l.web.URL, "http://")
	if a := l.ask(l.web.URL, "GET", "/healthz", "", "Host", "evil.test", "X-Forwarded-Host", host, "Forwarded", "host="+host); a.status != 421 {
		t.Errorf("a host that is forwarded: %d", a.status)
	}
	if a := l.ask(l.web.URL, "GET", "/api/v1/status", "", "X-Forwarded-For", "127.0.0.1", "X-Real-IP", "127.0.0.1", "X-Forwarded-User", "root", "X-Original-URL", "/healthz"); a.status != 401 {
		t.Errorf("a caller that is forwarded: %d", a.status)
	}
	hidden := "GET /api/v1/status HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n"
	for name, head := range map[string]string{
		"two lengths":           fmt.Sprintf("Content-Length: 0\r\nContent-Length: %d\r\n\r\n%s", len(hidden), hidden),
		"a length and chunks":   fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n%s", len(hidden)+5, hidden),
		"chunks under a cloak":  "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + hidden,
		"chunks twice":          "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + hidden,
		"a space before":        fmt.Sprintf("Content-Length : %d\r\n\r\n%s", len(hidden), hidden),
		"a line that is folded": fmt.Sprintf("X: y\r\n Content-Length: %d\r\n\r\n%s", len(hidden), hidden),
	} {
		conn, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		// The first has the token, as a proxy may add it: the second must not have it with it.
		fmt.Fprintf(conn, "GET /api/v1/limits HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n%s", host, token, head)
		_ = conn.(*net.TCPConn).CloseWrite()
		in := bufio.NewReader(conn)
		for n := 0; ; n++ {
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				break
			}
			b, _ := io.ReadAll(resp.Body)
			if resp.Body.Close(); n > 0 && resp.StatusCode == 200 || bytes.Contains(b, []byte(`"started"`)) {
				t.Errorf("%s: answer %d is %d %s", name, n, resp.StatusCode, b)
			}
		}
		conn.Close()
	}
}

// Metrics are read by many: they tell figures, and nobody's name. What helps to debug is not served at all.
func TestMetricsNameNobody(t *testing.T) {
	l := newLab(t)
	id := l.seeding("secret-plans.img", 100)
	var d daemon.Detail
	rows, _, err := l.s.cfg.Engine.List(t.Context(), 0, 1)
	if err != nil || len(rows) != 1 {
		t.Fatal(rows, err)
	}
	d.Row = rows[0]
	st, err := l.s.cfg.Engine.Stats(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	a := l.ask(l.web.URL, "GET", "/metrics", "", "Authorization", "Bearer "+token)
	for what, text := range map[string]string{
		"a file's name": "secret-plans", "an id": d.Content, "a transfer": id, "the swarm": l.swarm[:8], "a member": st.Swarms[0].Peer, "an address": st.Swarms[0].Servers[0],
		"the token": token[:16], "this machine": `"test"`,
	} {
		if a.status != 200 || text == "" || bytes.Contains(a.body, []byte(text)) {
			t.Errorf("%s (%q) is told: %d", what, text, a.status)
		}
	}
	for _, base := range []string{l.web.URL, l.local.URL} {
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/vars", "/debug/requests"} {
			if a := l.ask(base, "GET", path, "", "Authorization", "Bearer "+token); a.status != 404 {
				t.Errorf("%s: %d", path, a.status)
			}
		}
	}
}

// A link is an address to which this peer connects. There it says no more than that it looks for a swarm; and some addresses are nobody's.
func TestALinkReachesNoOtherService(t *testing.T) {
	l := newLab(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan []byte, 8)
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 4096)
			n, _ := conn.Read(b)
			heard <- b[:n]
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\nvery secret keys")
			conn.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-served })
	foreign := identity.Link{Swarm: identity.SwarmID{1}, Token: identity.Token{2}, Name: "x", ID: content.PrefixOf(content.ID{3})}
	join := func(addr string) answer {
		foreign.Addrs = []string{addr}
		return l.ask(l.web.URL, "POST", "/api/v1/swarms", fmt.Sprintf(`{"link":%q}`, foreign.String()), "Authorization", "Bearer "+token)
	}
	get := func(addr string) answer {
		foreign.Addrs = []string{addr}
		return l.ask(l.web.URL, "POST", "/api/v1/downloads", fmt.Sprintf(`{"what":%q,"dir":%q}`, foreign.String(), l.root), "Authorization", "Bearer "+token)
	}
	for name, do := range map[string]func(string) answer{"join": join, "get": get} {
		for _, addr := range []string{"169.254.169.254:80", "[fe80::1]:80", "[::ffff:169.254.169.254]:80", "0.0.0.0:80", "[::]:80", "224.0.0.1:80", "[ff02::1]:80"} {
			if a := do(addr); a.status != 403 {
				t.Errorf("%s %s: %d %s", name, addr, a.status, a.body)
			}
		}
		a := do(ln.Addr().String())
		if said := <-heard; len(said) == 0 || said[0] != 0x16 || bytes.Contains(said, []byte("HTTP")) || bytes.Contains(said, []byte("join")) {
			t.Errorf("%s says %q to a stranger", name, said)
		}
		if a.status < 400 || bytes.Contains(a.body, []byte("secret")) {
			t.Errorf("%s tells %d %s", name, a.status, a.body)
		}
	}
}

// However many want to listen: most are refused at once, and leave nothing behind.
func TestTenThousandSubscribers(t *testing.T) {
	l := newLab(t)
	first := l.stream("")
	first.next()
	for range daemon.MaxSubscribers - 1 {
		l.stream("").next()
	}
	h := l.s.Local()
	for range 10_000 {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/api/v1/events", nil))
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || w.Body.Len() > 1000 {
			t.Fatalf("%d, %d bytes", w.Code, w.Body.Len())
		}
	}
	first.resp.Body.Close()
	for tries := 0; ; tries++ { // the place is free when the server has seen that the connection is gone
		ctx, cancel := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, "GET", l.local.URL+"/api/v1/events", nil)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		code := resp.StatusCode
		cancel()
		resp.Body.Close()
		if code == 200 {
			break
		}
		if tries == 1000 {
			t.Fatal("a place is never free again")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A folder with very many names is told in part.
func TestAFolderOfManyIsToldInPart(t *testing.T) {
	l := newLab(t)
	dir := filepath.Join(l.root, "many")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range maxEntries + 10 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s%05d", strings.Repeat("n", 250), i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := l.valid("GET", "/api/v1/folders?path="+dir, "", "/api/v1/folders", 200)
	if n := bytes.Count(a, []byte(`"name"`)); n != maxEntries || !bytes.Contains(a, []byte(`"more":true`)) {
		t.Errorf("%d entries", n)
	}
	deep := dir
	for range 100 {
		deep = filepath.Join(deep, strings.Repeat("d", 200))
	}
	if a := l.ask(l.web.URL, "GET", "/api/v1/folders?path="+deep, "", "Authorization", "Bearer "+token); a.status < 400 || len(a.body) > 2000 {
		t.Errorf("a path that no system has: %d, %d bytes", a.status, len(a.body))
	}
}

package page_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"shoal/internal/api"
	"shoal/internal/daemon"
	"shoal/internal/identity"
	"shoal/internal/node"
	"shoal/internal/page"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	browserpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is one Chromium for all tests; each has a context of its own in it, with its own cookies and storage.
var browser struct {
	sync.Once
	ctx  context.Context
	stop func()
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if browser.stop != nil {
		browser.stop()
	}
	os.Exit(code)
}

// startBrowser starts Chromium. evil.test and its like are this machine: a name that an attacker has turned on it.
func startBrowser() {
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.DisableGPU, chromedp.WindowSize(1440, 900),
		chromedp.Flag("host-resolver-rules", "MAP *.test 127.0.0.1"), chromedp.Flag("lang", "en-GB"), chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("font-render-hinting", "none"), chromedp.WSURLReadTimeout(time.Minute))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	alloc, stopAlloc := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, stop := chromedp.NewContext(alloc)
	browser.stop = func() {
		_ = chromedp.Cancel(ctx) // waits until it has ended
		stop()
		stopAlloc()
	}
	browser.ctx = ctx
	browser.err = chromedp.Do(ctx)
}

// tab is a page in the browser, with all that it did.
type tab struct {
	t    testing.TB
	ctx  context.Context
	quit func()

	mu      sync.Mutex // guards what follows
	foreign []string   // requests to others
	own     map[string]bool
	streams int      // of events that were asked for
	wrong   []string // exceptions, dialogs, what the policy forbade
}

// newTab opens a tab that may ask these hosts, and fails the test if it asks others, throws, or opens a dialog.
func newTab(t testing.TB, own ...string) *tab {
	t.Helper()
	if _, err := exec.LookPath("chromium"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("there is no chromium (apt-get install chromium)")
		}
		t.Skip("there is no chromium (apt-get install chromium)")
	}
	browser.Do(startBrowser)
	if browser.err != nil {
		t.Fatal(browser.err)
	}
	return openTab(t, browser.ctx, own, chromedp.WithNewBrowserContext())
}

// another opens a tab that shares cookies, storage and locks with this one.
func (b *tab) another(own ...string) *tab { return openTab(b.t, b.ctx, own) }

// patience is how long a tab is used at most.
var patience = func() time.Duration {
	if os.Getenv("SHOAL_LONG") != "" {
		return 10 * time.Minute
	}
	return 2 * time.Minute
}()

func openTab(t testing.TB, parent context.Context, own []string, o ...chromedp.ContextOption) *tab {
	t.Helper()
	b := &tab{t: t, own: make(map[string]bool)}
	for _, host := range own {
		b.own[host] = true
	}
	ctx, quit := chromedp.NewContext(parent, append(o, chromedp.WithListener(b.hear))...)
	b.quit = func() { _ = chromedp.Cancel(ctx); quit() }
	call(t, ctx, network.Enable, network.EnableParams{})
	call(t, ctx, log.Enable, cdp.Empty{})
	bounded, stop := context.WithTimeout(ctx, patience)
	t.Cleanup(stop)
	b.ctx = bounded
	t.Cleanup(func() {
		b.quit()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, s := range b.foreign {
			t.Errorf("the page asked %s", s)
		}
		for _, s := range b.wrong {
			t.Error(s)
		}
	})
	return b
}

func (b *tab) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		u, err := url.Parse(e.Request.URL)
		if err != nil || u.Scheme != "data" && u.Scheme != "about" && !b.own[u.Host] {
			b.foreign = append(b.foreign, e.Request.URL)
		}
		if err == nil && strings.HasSuffix(u.Path, "/events") {
			b.streams++
		}
	case *browserpage.EventJavascriptDialogOpening:
		b.wrong = append(b.wrong, "a dialog was opened: "+e.Message)
		go func() {
			_, _ = chromedp.Call(b.ctx, browserpage.HandleJavaScriptDialog, browserpage.HandleJavaScriptDialogParams{Accept: true})
		}()
	case *runtime.EventExceptionThrown:
		b.wrong = append(b.wrong, fmt.Sprintf("a script failed: %s %+v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception))
	case *log.EventEntryAdded:
		if strings.Contains(e.Entry.Text, "Content Security Policy") || e.Entry.Source == log.EntrySourceViolation || e.Entry.Source == log.EntrySourceSecurity {
			b.wrong = append(b.wrong, "the policy forbade something: "+e.Entry.Text)
		}
	}
}

// call sends a command to the browser.
func call[P, R any](t testing.TB, ctx context.Context, cmd cdp.Command[P, R], params P) R {
	t.Helper()
	r, err := chromedp.Call(ctx, cmd, params)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// do does things in the tab.
func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// visit goes to an address.
func (b *tab) visit(url string) {
	b.t.Helper()
	b.do(chromedp.Navigate(url))
}

// run runs a script.
func (b *tab) run(format string, args ...any) {
	b.t.Helper()
	js := format
	if len(args) > 0 {
		js = fmt.Sprintf(format, args...)
	}
	b.do(chromedp.Evaluate[chromedp.Void](js))
}

// eval returns what an expression is.
func eval[T any](b *tab, js string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](js, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", js, err)
	}
	return v
}

// until waits until an expression is true.
func (b *tab) until(js string) {
	b.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(30 * time.Millisecond) {
		is, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](js))
		if err == nil && is {
			return
		}
		if time.Now().After(end) || b.ctx.Err() != nil {
			shown, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body.innerText"))
			shown = shown[:min(len(shown), 2500)]
			b.t.Fatalf("it did not come so: %s (%v)\nthe page shows:\n%s", js, err, shown)
		}
	}
}

// sees waits until the page shows a text.
func (b *tab) sees(s string) {
	b.t.Helper()
	b.until(fmt.Sprintf("document.body.innerText.includes(%q)", s))
}

// click clicks on what has a text: a button or a link that can be seen.
func (b *tab) click(s string) {
	b.t.Helper()
	find := fmt.Sprintf(`[...document.querySelectorAll("button, a, summary")].filter((e) => e.checkVisibility() && !e.disabled &&
		(e.textContent.trim() === %q || e.getAttribute("aria-label") === %q)).at(-1)`, s, s)
	b.until("Boolean(" + find + ")")
	b.run("%s", find+".click()")
}

// fill fills the field that has a label.
func (b *tab) fill(label, value string) {
	b.t.Helper()
	find := fmt.Sprintf(`[...document.querySelectorAll("label")].find((l) => l.firstChild.textContent === %q)?.querySelector("input")`, label)
	b.until("Boolean(" + find + ")")
	b.run(`{ const e = %s; e.focus(); e.value = %q; e.dispatchEvent(new Event("input", { bubbles: true })); }`, find, value)
}

// key presses a key.
func (b *tab) key(k string) {
	b.t.Helper()
	b.do(chromedp.KeyEvent(k))
}

// peer is a peer with its page, on a port that it keeps over restarts.
type peer struct {
	t      testing.TB
	dir    string // state
	root   string // that the page may use
	addr   string
	engine *daemon.Engine
	local  http.Handler // its owner's door
	stop   func()
}

// newPeer makes the folders of a peer.
func newPeer(t testing.TB) *peer {
	t.Helper()
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, dir: filepath.Join(base, "state"), root: filepath.Join(base, "files")}
	if err := os.Mkdir(p.root, 0o700); err != nil {
		t.Fatal(err)
	}
	return p
}

// listen listens on an address that is free, or is this peer's.
func listen(t testing.TB, addr string) net.Listener {
	t.Helper()
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func explain(err error) *daemon.Failure {
	return &daemon.Failure{Code: "E-TEST", Exit: 3, What: err.Error(), Cause: "a cause", Next: "shoal doctor"}
}

// start runs a peer until the test ends or it is stopped.
func (p *peer) start(l daemon.Limits) {
	p.t.Helper()
	states, err := identity.OpenStates(p.dir)
	if err != nil {
		p.t.Fatal(err)
	}
	p.engine = daemon.New(daemon.Config{
		Dir: p.dir, States: states, Name: "lab-1", Version: "1.0.0", Explain: explain, Settings: daemon.Settings{Limits: l},
		NewMember: func(sw *identity.Swarm, warn func(string)) (*node.Member, error) {
			return node.NewMember(node.MemberConfig{Swarm: sw, Listen: "127.0.0.1:0", Warn: warn, Patient: true}), nil
		},
		SetLimits: func(m *node.Member, r daemon.Rates) { m.SetLimits(r.Up, r.Down) },
		Serve: func(ctx context.Context, sw *identity.Swarm, up func()) error {
			if !sw.IsServer() {
				return daemon.ErrNotServing
			}
			addr := ""
			if known := sw.Servers(); len(known) > 0 {
				addr = known[0]
			}
			if addr == "" {
				addr = "127.0.0.1:0"
			}
			ln, err := net.Listen("tcp", addr)
			if err != nil {
				return err
			}
			if err := sw.SetServers([]string{ln.Addr().String()}); err != nil {
				return errors.Join(err, ln.Close())
			}
			up()
			return node.NewServer(node.ServerConfig{Swarm: sw}).Serve(ctx, ln)
		},
	})
	ln := listen(p.t, p.addr)
	p.addr = ln.Addr().String()
	p.serve(ln, p.engine, p.engine.Run)
	<-p.engine.Ready()
}

// serve serves the page of an engine, which runs.
func (p *peer) serve(ln net.Listener, e api.Engine, run func(context.Context) error) {
	s := api.New(api.Config{
		Engine: e, Explain: explain, Token: strings.Repeat("ab", 32), Roots: func() []string { return []string{p.root} }, Page: page.Peer(),
		URL: "http://" + p.addr, Version: "1.0.0",
	})
	p.local = s.Local()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := run(ctx); err != nil {
			p.t.Error(err)
		}
	})
	running.Go(func() {
		if err := s.Serve(ctx, ln, s.Web(api.Hosts(ln)...)); err != nil {
			p.t.Error(err)
		}
	})
	once := sync.Once{}
	p.stop = func() { once.Do(func() { cancel(); running.Wait() }) }
	p.t.Cleanup(p.stop)
}

// serveHandler serves what a browser asks.
func (p *peer) serveHandler(ln net.Listener, local, web http.Handler) {
	server := &http.Server{Handler: web, ReadHeaderTimeout: time.Minute}
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(ln) })
	p.local = local
	p.stop = func() { server.Close(); running.Wait() }
	p.t.Cleanup(p.stop)
}

// login is a link that lets a browser in.
func (p *peer) login() string {
	p.t.Helper()
	w := &answer{header: make(http.Header)}
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, "/api/v1/logins", strings.NewReader("{}"))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	p.local.ServeHTTP(w, r)
	_, link, ok := strings.Cut(w.body.String(), `"url":"`)
	if link, _, _ = strings.Cut(link, `"`); !ok {
		p.t.Fatal(w.body.String())
	}
	return link
}

// answer keeps an answer.
type answer struct {
	header http.Header
	body   strings.Builder
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }
func (a *answer) WriteHeader(int)             {}

// file makes a file below the root.
func (p *peer) file(name string, content []byte) string {
	p.t.Helper()
	path := filepath.Join(p.root, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// open opens the page, signed in.
func (p *peer) open() *tab {
	p.t.Helper()
	b := newTab(p.t, p.addr)
	b.visit(p.login())
	b.until(`document.querySelector(".work").checkVisibility()`)
	return b
}

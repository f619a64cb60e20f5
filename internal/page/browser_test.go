package page_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shoal/internal/daemon"
	"shoal/internal/identity"
	"shoal/internal/swarm"

	"github.com/chromedp/chromedp/kb"
)

// Sharing by path on one machine, getting by link on another, pause, resume, a restart under the open page, and the end.
func TestShareAndGet(t *testing.T) {
	content := make([]byte, 24<<20)
	_, _ = rand.Read(content)
	giver := newPeer(t)
	giver.start(daemon.Limits{})
	path := giver.file("data.img", content)
	one := giver.open()
	one.sees("Share a file")
	one.click("Share")
	one.fill("Path of a file on this machine", path)
	one.key(kb.Enter)
	one.sees("↑ seeding")
	one.click("Make a link for machines that are not in the swarm")
	one.sees("shoal get 'shoal://")
	link := eval[string](one, `document.querySelector(".link code").textContent.match(/'(.*)'/)[1]`)
	if _, err := identity.ParseLink(link); err != nil {
		t.Fatal(err)
	}

	taker := newPeer(t)
	taker.start(daemon.Limits{Rates: daemon.Rates{Down: 1 << 20}})
	two := newTab(t, taker.addr)
	two.visit(taker.login())
	two.sees("in no swarm")
	// A link that is pasted anywhere is taken.
	two.run(`{ const d = new DataTransfer(); d.setData("text/plain", %q);
		document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: d, bubbles: true })); }`, link)
	two.fill("Into the folder", taker.root)
	two.key(kb.Enter)
	two.sees("↓ downloading")
	two.until(`/^[1-9]\d? % · data.img · shoal$/.test(document.title)`)

	two.click("Pause data.img")
	two.sees("‖ paused")
	paused := taker.row(t)
	two.click("Resume data.img")
	two.sees("↓ downloading")

	taker.stop()
	two.sees("The peer does not answer")
	two.sees("data.img") // what was known stays
	taker.start(daemon.Limits{})
	two.until(`document.getElementById("banner").hidden`)
	two.sees("✓ complete")
	if got := taker.row(t); got.Done < paused.Done || got.Done != int64(len(content)) {
		t.Errorf("%+v after %+v", got, paused)
	}
	if got, err := os.ReadFile(filepath.Join(taker.root, "data.img")); err != nil || !bytes.Equal(got, content) {
		t.Errorf("what was fetched is not what was shared: %v", err)
	}
	if title := eval[string](two, "document.title"); title != "shoal" {
		t.Errorf("the title is %q when nothing runs", title)
	}
	two.click("Remove data.img")
	two.click("Remove, and delete the data")
	two.sees("Choose what to get")
	if _, err := os.Stat(filepath.Join(taker.root, "data.img")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the data are there after they were to be deleted: %v", err)
	}
}

// row is the only transfer of a peer.
func (p *peer) row(t *testing.T) daemon.Row {
	t.Helper()
	rows, _, err := p.engine.List(t.Context(), 0, 2)
	if err != nil || len(rows) != 1 {
		t.Fatal(rows, err)
	}
	return rows[0]
}

// share shares files by the engine, and waits until all are given.
func (p *peer) share(b *tab, names []string) {
	p.t.Helper()
	for i, name := range names {
		path := p.file(fmt.Sprint("shared-", i), fmt.Append(nil, "content ", i))
		if _, err := p.engine.AddShare(p.t.Context(), daemon.ShareRequest{Path: path, Name: name}); err != nil {
			p.t.Fatalf("%q: %v", name, err)
		}
	}
	b.until(fmt.Sprintf(`document.querySelectorAll('[data-state="seeding"]').length === %d`, min(len(names), 200)))
}

// The list of the swarm offers what others share, and what one chooses is fetched.
func TestGetFromTheList(t *testing.T) {
	giver := newPeer(t)
	giver.start(daemon.Limits{})
	one := giver.open()
	giver.share(one, []string{"first", "second"})
	link, err := giver.engine.Link(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := identity.ParseLink(link)
	if err != nil {
		t.Fatal(err)
	}
	taker := newPeer(t)
	taker.start(daemon.Limits{})
	if _, err := taker.engine.Join(t.Context(), parsed); err != nil {
		t.Fatal(err)
	}
	two := taker.open()
	two.key("g")
	two.until(`document.querySelectorAll("fieldset .entry").length === 2`)
	two.run(`document.querySelectorAll("fieldset .entry")[1].click()`)
	// The only root is filled in.
	two.until(fmt.Sprintf(`[...document.querySelectorAll("dialog input")].some((e) => e.value === %q)`, taker.root))
	two.key(kb.Enter)
	two.sees("✓ complete")
	if got, err := os.ReadFile(filepath.Join(taker.root, taker.row(t).Name)); err != nil || !strings.HasPrefix(string(got), "content ") {
		t.Errorf("%q %v", got, err)
	}
	// The target exists, and is another file: the error has its three lines, in the list's row and in the details.
	two.click("Close")
	two.key("g")
	two.fill("Link, name or id", "third")
	two.fill("Into the folder", "/etc")
	two.key(kb.Enter)
	two.sees("E-ROOT")
	two.sees("next")
}

// All can be done without a mouse; what is removed comes back when that is undone.
func TestKeys(t *testing.T) {
	p := newPeer(t)
	p.start(daemon.Limits{})
	b := p.open()
	p.share(b, []string{"alpha", "beta", "gamma"})
	focus := `document.activeElement.textContent`
	b.key("j")
	b.until(focus + ` === "alpha"`)
	b.key("j")
	b.until(focus + ` === "beta"`)
	b.key("k")
	b.until(focus + ` === "alpha"`)
	b.key("p")
	b.sees("‖ paused")
	b.until(`document.getElementById("said").textContent === "" || document.getElementById("said").textContent.includes("alpha")`)
	b.key("p")
	b.until(`!document.querySelector('[data-state="paused"]')`)
	b.key(kb.Enter)
	b.until(`!document.querySelector(".detail").hidden`)
	b.until(`document.querySelector(".detail h2").textContent === "alpha" && document.activeElement.tagName === "H2"`)
	b.key(kb.Escape)
	b.until(`document.querySelector(".detail").hidden`)
	b.key("/")
	b.until(`document.activeElement.type === "search"`)
	b.run(`document.activeElement.value = ""`) // the protocol types the key even though the page has taken it
	b.key("gam")
	b.until(`document.querySelectorAll(".list tbody tr").length === 1`)
	b.key(kb.Escape)
	b.key("j")
	b.until(focus + ` === "gamma"`)
	b.key("x")
	b.sees("Removed gamma")
	b.until(`document.querySelectorAll(".list tbody tr").length === 0`)
	b.click("Undo")
	b.until(`document.querySelectorAll(".list tbody tr").length === 1`)
	b.key("j")
	b.key("x")
	b.sees("Removed gamma")
	// Leaving the page does what nobody has undone.
	b.visit("about:blank")
	waitFor(t, func() bool {
		_, n, err := p.engine.List(t.Context(), 0, 1)
		return err == nil && n == 2
	})
	b.visit("http://" + p.addr + "/")
	b.sees("alpha")
	b.key("?")
	b.until(`document.querySelector("dialog[open] h2").textContent === "Keys"`)
	b.key(kb.Escape)
	b.until(`!document.querySelector("dialog")`)
}

// A browser has six connections to a host: one tab listens, and tells the others; when it is closed, another does.
func TestTabsShareOneStream(t *testing.T) {
	p := newPeer(t)
	p.start(daemon.Limits{})
	follower := newTab(t, p.addr)
	follower.visit(p.login())
	follower.until(`document.querySelector(".work").checkVisibility()`)
	follower.visit("about:blank")
	follower.streams = 0
	leader := follower.another(p.addr)
	leader.visit("http://" + p.addr + "/")
	p.share(leader, []string{"alpha"})
	follower.visit("http://" + p.addr + "/")
	follower.sees("alpha")
	follower.mu.Lock()
	if follower.streams != 0 {
		t.Errorf("the second tab has asked for %d streams", follower.streams)
	}
	follower.mu.Unlock()
	leader.click("Pause alpha")
	follower.sees("‖ paused")
	leader.quit()
	if _, err := p.engine.AddShare(t.Context(), daemon.ShareRequest{Path: p.file("b", []byte("b")), Name: "beta"}); err != nil {
		t.Fatal(err)
	}
	follower.sees("beta")
	follower.mu.Lock()
	defer follower.mu.Unlock()
	if follower.streams == 0 {
		t.Error("nobody listens")
	}
}

// hostile is names that try to be more than text.
func hostile() (out []string) {
	forms := []string{
		`<img src=x onerror=alert(%d)>`, `<script>alert(%d)<`, `"><svg onload=alert(%d)>`, `' onmouseover='alert(%d)`, `javascript:alert(%d)`, `{{alert(%d)}}`,
		`${alert(%d)}`, `<iframe srcdoc="<script>alert(%d)<">`, `<style>*{display:none}<%d`, `<base href=` + "`evil.test`" + `>%d`, `&lt;b&gt;%d&amp;`, `__proto__%d`,
		`constructor%d`, `-- ; rm -rf ~ %d`, `%%00%d`, `#t%d?x=1&y=2`, `<a href="javascript:alert(%d)">x<`, `<meta http-equiv=refresh content=0 %d>`, `𝕊𝕙𝕠𝕒𝕝 مرحبا %d`,
		`<form action=javascript:alert(%d)><button>`, strings.Repeat("W", 200) + "%d", `<math><mi xlink:href="data:x,alert(%d)">`, `<link rel=stylesheet href=x%d>`,
		`<body onload=alert(%d)>`, " %d\u00a0\u3000",
	}
	for i := range 500 {
		out = append(out, fmt.Sprintf(forms[i%len(forms)], i))
	}
	return out
}

func TestHostileNamesAreText(t *testing.T) {
	p := newPeer(t)
	p.start(daemon.Limits{})
	b := p.open()
	before := eval[int](b, elements)
	names := hostile()
	p.share(b, names)
	b.click("Show 200 more of 300")
	b.click("Show 100 more of 100")
	b.until(`document.querySelectorAll(".list tbody tr").length === 500`)
	shown := eval[[]string](b, `[...document.querySelectorAll(".list tbody .of-name bdi")].map((e) => e.textContent)`)
	wanted := make(map[string]bool)
	for _, n := range names {
		wanted[n] = true
	}
	for _, s := range shown {
		if !wanted[s] {
			t.Errorf("%q is no name that was shared", s)
		}
	}
	if len(shown) != len(names) {
		t.Errorf("%d names are shown, of %d", len(shown), len(names))
	}
	if after := eval[int](b, elements); after != before {
		t.Errorf("there are %d elements that can load or run something, where there were %d", after, before)
	}
	// In the details, in their log, in a dialog, in the title.
	for i := range 25 {
		b.run(`document.querySelectorAll(".list tbody .of-name a")[%d].click()`, i)
		b.until(fmt.Sprintf(`document.querySelector(".detail h2").textContent === document.querySelectorAll(".list tbody .of-name a")[%d].textContent`, i))
	}
	b.key("g")
	b.until(`document.querySelectorAll("dialog .entry").length > 400`)
	if after := eval[int](b, elements); after != before {
		t.Errorf("there are %d elements that can load or run something, where there were %d", after, before)
	}
}

// elements counts what can load or run something.
const elements = `document.querySelectorAll("script, img, iframe, object, embed, svg, math, style, link, base, meta, form[action], a[href^='javascript' i]").length`

// Other pages cannot ask, not even with the browser's cookie; nor can a name that was turned on this machine; nor can one who has not signed in.
func TestOtherPagesAreRefused(t *testing.T) {
	p := newPeer(t)
	p.start(daemon.Limits{})
	b := p.open()
	_, port, _ := strings.Cut(p.addr, ":")
	// Another name for this machine: a foreign Host, over which nothing is served.
	rebound := newTab(t, "evil.test:"+port)
	rebound.visit("http://evil.test:" + port + "/")
	rebound.sees("E-HOST")
	if got := eval[int](rebound, `fetch("/api/v1/status").then((r) => r.status)`); got != 421 {
		t.Errorf("a foreign host: %d", got)
	}
	// Another page in the browser that has the cookie: another peer's, on another port of the same machine.
	other := newPeer(t)
	other.start(daemon.Limits{})
	b.mu.Lock()
	b.own[other.addr] = true
	b.mu.Unlock()
	b.visit("http://" + other.addr + "/healthz")
	target, _ := json.Marshal("http://" + p.addr)
	tries := eval[map[string]string](b, fmt.Sprintf(`(async () => {
		const at = %s, out = {};
		const name = (p) => p.then((r) => r.type + r.status, () => "refused");
		out.read = await name(fetch(at + "/api/v1/status", { credentials: "include" }));
		out.write = await name(fetch(at + "/api/v1/shares", { method: "POST", mode: "no-cors", credentials: "include", body: "{}" }));
		out.json = await name(fetch(at + "/api/v1/shares", { method: "POST", headers: { "Content-Type": "application/json" }, credentials: "include", body: "{}" }));
		out.events = await new Promise((done) => {
			const s = new EventSource(at + "/api/v1/events", { withCredentials: true });
			s.onopen = () => { s.close(); done("open"); };
			s.onerror = () => { s.close(); done("refused"); };
		});
		return out;
	})()`, target))
	for what, got := range tries {
		if got != "refused" {
			t.Errorf("%s from another page: %s", what, got)
		}
	}
	if len(tries) != 4 {
		t.Errorf("%v", tries)
	}
	b.forgive() // the policy of that page has refused it, too: it said so
	// A browser that is not signed in is told how to.
	stranger := newTab(t, p.addr)
	stranger.visit("http://" + p.addr + "/")
	stranger.sees("shoal web")
	if eval[bool](stranger, `document.querySelector(".work").checkVisibility()`) {
		t.Error("one who is not signed in sees more than that")
	}
	// A link lets in once.
	link := p.login()
	stranger.visit(link)
	stranger.sees("Share a file")
	again := newTab(t, p.addr)
	again.visit(link)
	again.sees("E-LOGIN")
}

// forgive forgets what a tab was blamed for.
func (b *tab) forgive() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wrong, b.foreign = nil, nil
}

// What a swarm has under its names is text on its server's page, too.
func TestHostileNamesInTheSwarmAreText(t *testing.T) {
	o := lookingSwarm(25, 1)
	names := hostile()
	for i := range o.There {
		o.There[i].Name, o.There[i].Addrs = names[i], []string{names[i+25]}
	}
	o.Contained[0].Names = names[50:80]
	for i := range o.News {
		o.News[i].Name, o.News[i].Content = names[i+80], names[i+110]
	}
	p := swarmPage(t, func() swarm.Overview { return o })
	b := newTab(t, p.addr)
	b.visit(p.login())
	b.until(`document.querySelectorAll(".members tbody tr").length === 25`)
	b.sees(names[0])
	b.sees(names[60])
	b.sees(names[85])
	if n := eval[int](b, elements); n != 6 { // what server.html itself has
		t.Errorf("there are %d elements that can load or run something", n)
	}
}

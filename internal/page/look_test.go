package page_test

import (
	"bytes"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"shoal/internal/api"
	"shoal/internal/content"
	"shoal/internal/page"
	"shoal/internal/swarm"
	"shoal/internal/wire"

	"github.com/chromedp/cdproto/emulation"
	browserpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

var update = flag.Bool("update", false, "keep what the pages look like now as what they are to look like")

// shrink is by how much a picture is smaller than the page that it is compared with.
const shrink = 2

// inDocs are the pictures that the README shows.
var inDocs = map[string]string{"detail-1440-light": "page.png", "swarm-1440-dark": "swarm.png"}

// themed makes a tab look like a screen: its width, its theme, its time zone.
func (b *tab) themed(width int64, theme string) {
	b.t.Helper()
	call(b.t, b.ctx, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "UTC"})
	call(b.t, b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: theme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
	b.do(chromedp.EmulateViewport(width, 900))
}

// settled waits until two pictures of the whole page are nearly alike, and returns it at half its size. The graphs go on: where a picture takes a second, no two
// are quite alike.
func (b *tab) settled() *image.RGBA {
	b.t.Helper()
	var last *image.RGBA
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(300 * time.Millisecond) {
		raw, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
		if err != nil {
			b.t.Fatal(err)
		}
		m, err := png.Decode(bytes.NewReader(raw))
		if err != nil {
			b.t.Fatal(err)
		}
		got := smaller(m)
		if last != nil && differ(got, last) <= tolerance/10 {
			return got
		}
		if last = got; time.Now().After(end) {
			b.t.Fatal("the page does not come to rest")
		}
	}
}

// smaller is a picture at half its size, each pixel the mean of four.
func smaller(m image.Image) *image.RGBA {
	b := m.Bounds()
	src := image.NewRGBA(b)
	draw.Draw(src, b, m, b.Min, draw.Src)
	out := image.NewRGBA(image.Rect(0, 0, b.Dx()/shrink, b.Dy()/shrink))
	for y := range out.Rect.Dy() {
		for x := range out.Rect.Dx() {
			var sum [3]int
			for dy := range shrink {
				for dx := range shrink {
					c := src.RGBAAt(b.Min.X+x*shrink+dx, b.Min.Y+y*shrink+dy)
					sum[0], sum[1], sum[2] = sum[0]+int(c.R), sum[1]+int(c.G), sum[2]+int(c.B)
				}
			}
			n := shrink * shrink
			out.SetRGBA(x, y, color.RGBA{uint8(sum[0] / n), uint8(sum[1] / n), uint8(sum[2] / n), 255})
		}
	}
	return out
}

// tolerance is which part of a page may look otherwise: text is drawn a little differently by each version of the browser.
const tolerance = 0.01

// looks compares a page with what it is to look like.
func (b *tab) looks(name string) {
	b.t.Helper()
	got := b.settled()
	path := filepath.Join("testdata", "look", name+".png")
	if *update {
		writePNG(b.t, path, got)
		if shown := inDocs[name]; shown != "" {
			writePNG(b.t, filepath.Join("..", "..", "docs", shown), got)
		}
		return
	}
	f, err := os.Open(path)
	if err != nil {
		b.t.Fatalf("%v: go test ./internal/page -run Look -update makes it; look at it", err)
	}
	defer f.Close()
	want, err := png.Decode(f)
	if err != nil {
		b.t.Fatal(err)
	}
	if d := differ(got, want); d > tolerance {
		seen := filepath.Join(os.TempDir(), "shoal-look-"+name+".png")
		writePNG(b.t, seen, got)
		b.t.Errorf("%s: %.1f %% of it differ from testdata/look (%v and %v); it looks like %s", name, 100*d, got.Bounds().Size(), want.Bounds().Size(), seen)
	}
}

// differ is which part of a picture, in squares of eight pixels, is darker, lighter or of another colour.
func differ(a, b image.Image) float64 {
	w, h := a.Bounds().Dx(), a.Bounds().Dy()
	if w != b.Bounds().Dx() || max(h, b.Bounds().Dy())-min(h, b.Bounds().Dy()) > 12 {
		return 1
	}
	const side = 8
	h = min(h, b.Bounds().Dy())
	n, all := 0, 0
	for y := 0; y+side <= h; y += side {
		for x := 0; x+side <= w; x += side {
			sum := uint32(0)
			for i := range side * side {
				r1, g1, b1, _ := a.At(x+i%side, y+i/side).RGBA()
				r2, g2, b2, _ := b.At(x+i%side, y+i/side).RGBA()
				sum += (apart(r1, r2) + apart(g1, g2) + apart(b1, b2)) >> 8
			}
			if all++; sum > 3*side*side*10 {
				n++
			}
		}
	}
	return float64(n) / float64(all)
}

// A page that looks otherwise is noticed: a row more, another colour, another size.
func TestDiffer(t *testing.T) {
	f, err := os.Open(filepath.Join("testdata", "look", "list-1440-light.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	if d := differ(want, want); d != 0 {
		t.Errorf("it differs from itself: %v", d)
	}
	other := image.NewRGBA(want.Bounds())
	draw.Draw(other, other.Rect, want, image.Point{}, draw.Src)
	draw.Draw(other, image.Rect(0, 60, 720, 90), want, image.Pt(0, 0), draw.Src) // a bar where a row was
	if d := differ(other, want); d < 2*tolerance {
		t.Errorf("a row is another, and that counts as %v", d)
	}
	if differ(image.NewRGBA(image.Rect(0, 0, 720, 900)), want) != 1 {
		t.Error("another size is not noticed")
	}
}

func apart(a, b uint32) uint32 { return max(a, b) - min(a, b) }

func writePNG(t testing.TB, path string, m image.Image) {
	t.Helper()
	var b bytes.Buffer
	e := png.Encoder{CompressionLevel: png.BestCompression}
	if err := e.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// violations are what axe finds in what the page shows.
func (b *tab) violations() []string {
	b.t.Helper()
	axe, err := os.ReadFile(filepath.Join("testdata", "axe.min.js"))
	if err != nil {
		b.t.Fatal(err)
	}
	if !eval[bool](b, "Boolean(window.axe)") {
		b.do(chromedp.Evaluate[chromedp.Void](string(axe)))
	}
	return eval[[]string](b, `axe.run().then((r) => r.violations.flatMap((v) => v.nodes.map((n) => v.id + ": " + n.target.join(" ") + ": " + n.failureSummary)))`)
}

// accessible has axe look at what the page shows.
func (b *tab) accessible(what string) {
	b.t.Helper()
	for _, s := range b.violations() {
		b.t.Errorf("%s: %s", what, s)
	}
	if wide := eval[int](b, "document.documentElement.scrollWidth - innerWidth"); wide > 0 {
		b.t.Errorf("%s: the page is %d pixels wider than the screen", what, wide)
	}
}

var screens = []struct {
	width int64
	theme string
}{{1440, "light"}, {1440, "dark"}, {768, "light"}, {768, "dark"}, {320, "light"}, {320, "dark"}}

// Each screen of the peer's page, in both themes: as it was looked at, and nothing for axe to find.
func TestLook(t *testing.T) {
	s := lookingPeer()
	p := simulate(t, s)
	b := newTab(t, p.addr)
	call(t, b.ctx, browserpage.SetBypassCSP, browserpage.SetBypassCSPParams{Enabled: true}) // for axe, which comes from elsewhere
	b.themed(1440, "light")
	b.visit(p.login())
	b.sees("ubuntu-lab.img")
	for _, screen := range screens {
		name := fmt.Sprint(screen.width, "-", screen.theme)
		b.themed(screen.width, screen.theme)
		b.run(`location.hash = "#/"`)
		b.until(`document.querySelector(".detail").hidden`)
		b.run(`document.activeElement.blur()`)
		b.looks("list-" + name)
		b.accessible("list, " + name)
		b.run(`location.hash = "#/t/a"`)
		b.until(`document.querySelectorAll(".peers tbody tr").length === 12`)
		b.run(`document.activeElement.blur()`)
		b.looks("detail-" + name)
		b.accessible("detail, " + name)
	}
	b.themed(1440, "dark")
	b.run(`location.hash = "#/t/f"`)
	b.sees("E-NO-SPACE")
	b.run(`document.activeElement.blur()`)
	b.looks("failed-1440-dark")
	b.accessible("failed")
	b.run(`location.hash = "#/"`)
	b.until(`document.querySelector(".detail").hidden`)
	for _, theme := range []string{"light", "dark"} {
		b.themed(768, theme)
		for _, key := range []string{"g", "s", "?"} {
			b.key(key)
			b.until(`Boolean(document.querySelector("dialog[open]"))`)
			b.until(`!document.querySelector("dialog[open]").innerText.includes("Asking")`)
			b.accessible("dialog " + key + ", " + theme)
			if theme == "light" && key == "s" {
				b.until(`document.querySelector(".path").textContent !== ""`)
				b.run(`document.querySelector(".path").textContent = "/srv/images"`)
				b.run(`document.querySelector("dialog input").value = ""`) // the protocol types the key even though the page has taken it
				b.looks("share-768-light")
			}
			b.run(`document.querySelector("dialog").close()`)
		}
	}
}

// What axe finds is found: the check of the check.
func TestAxeFinds(t *testing.T) {
	p := simulate(t, lookingPeer())
	b := newTab(t, p.addr)
	call(t, b.ctx, browserpage.SetBypassCSP, browserpage.SetBypassCSPParams{Enabled: true})
	b.visit("http://" + p.addr)
	b.sees("Sign in")
	b.run(`{ const e = document.querySelector(".sign-in p"); e.style.color = "#aaa"; e.style.backgroundColor = "#999"; e.append(document.createElement("button")); }`)
	found := b.violations()
	for _, rule := range []string{"color-contrast", "button-name"} {
		if !slices.ContainsFunc(found, func(s string) bool { return strings.HasPrefix(s, rule) }) {
			t.Errorf("axe does not find %s: %q", rule, found)
		}
	}
}

// Nothing is there yet; nobody has signed in; the peer does not answer.
func TestLookOfNothing(t *testing.T) {
	s := lookingPeer()
	s.rows, s.stats.Down, s.stats.Up = nil, 0, 0
	s.detail.Speed.Down, s.detail.Speed.Up = []int64{}, []int64{}
	s.stats.Swarms[0].State = "away"
	p := simulate(t, s)
	b := newTab(t, p.addr)
	call(t, b.ctx, browserpage.SetBypassCSP, browserpage.SetBypassCSPParams{Enabled: true})
	b.themed(768, "light")
	b.visit("http://" + p.addr)
	b.sees("Sign in")
	b.looks("sign-in-768-light")
	b.accessible("sign in, light")
	b.themed(768, "dark")
	b.accessible("sign in, dark")
	b.visit(p.login())
	b.sees("Choose what to get")
	for _, screen := range screens[:2] {
		b.themed(screen.width, screen.theme)
		b.looks(fmt.Sprint("empty-", screen.width, "-", screen.theme))
		b.accessible("empty, " + screen.theme)
	}
	p.stop()
	b.sees("The peer does not answer")
	b.themed(320, "light")
	b.looks("lost-320-light")
	b.accessible("lost, light")
	b.themed(320, "dark")
	b.accessible("lost, dark")
}

// lookingSwarm is a swarm of some size, always the same.
func lookingSwarm(members, contents int) swarm.Overview {
	r := rand.New(rand.NewPCG(3, 4))
	t := swarm.NewTable(r)
	ids := make([]content.ID, contents)
	for i := range members {
		k := swarm.PeerKey{Instance: 1}
		for j := range k.ID {
			k.ID[j] = byte(r.Uint32())
		}
		t.Enter(k, "member", fmt.Sprintf("node%03d", i), "shoal 1.0.0", []string{fmt.Sprintf("10.0.%d.%d:50002", i/250, 1+i%250)})
		for c := range contents {
			if c == i%contents || r.Float64() < 0.6/float64(1+c) {
				ids[c][0], ids[c][1] = byte(c), byte(c>>8)
				_, _ = t.Hold(k, ids[c], int64(c+1)<<30, r.Float64() < 0.5)
				_ = t.Offer(k, wire.Record{Name: fmt.Sprintf("image-%02d.raw", c), ID: ids[c], Size: int64(c+1) << 30}, k.ID, int64(100*c))
			}
		}
	}
	o := t.Overview(7200)
	o.Up, o.Joined, o.Left, o.Completed = 2*time.Hour+14*time.Minute, members+9, 9, 31
	at := time.Date(2026, 11, 22, 19, 30, 0, 0, time.UTC)
	for i := range 20 {
		o.News = append(o.News, swarm.News{
			Time: at.Add(time.Duration(i) * time.Second), What: []string{swarm.NewsJoined, swarm.NewsCompleted, swarm.NewsLeft}[i%3], Name: fmt.Sprintf("node%03d", i),
			Content: []string{"", "image-00.raw", ""}[i%3],
		})
	}
	return o
}

// swarmPage serves the page of a swarm server, and returns where it is, with a link that lets in.
func swarmPage(t testing.TB, overview func() swarm.Overview) (p *peer) {
	t.Helper()
	p = newPeer(t)
	ln := listen(t, "")
	p.addr = ln.Addr().String()
	s := api.NewSwarm(api.SwarmConfig{
		Overview: overview, Explain: explain, Token: "token", Page: page.Server(), URL: "http://" + p.addr, Swarm: "k7f3wq2mabcdefgh", Name: "lab-1", Version: "1.0.0",
	})
	p.serveHandler(ln, s.Local(), s.Web(api.Hosts(ln)...))
	return p
}

// The page of the swarm server.
func TestLookOfTheSwarm(t *testing.T) {
	o := lookingSwarm(160, 12)
	p := swarmPage(t, func() swarm.Overview { return o })
	b := newTab(t, p.addr)
	call(t, b.ctx, browserpage.SetBypassCSP, browserpage.SetBypassCSPParams{Enabled: true})
	b.themed(1440, "light")
	b.visit("http://" + p.addr)
	b.sees("shoal web server")
	b.accessible("sign in")
	b.visit(p.login())
	b.sees("image-00.raw")
	for _, screen := range screens {
		b.themed(screen.width, screen.theme)
		name := fmt.Sprint(screen.width, "-", screen.theme)
		b.looks("swarm-" + name)
		b.accessible("swarm, " + name)
	}
	p.stop()
	b.sees("The server does not answer")
}

package api

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"shoal/internal/daemon"

	"golang.org/x/time/rate"
)

const (
	// keyLife is how long a link to log in works, maxKeys how many there are.
	keyLife = 10 * time.Minute
	maxKeys = 16
	// guessBurst is how many wrong tokens are looked at, and guessRate how many more each second.
	guessBurst = 20
	guessRate  = 1
)

// policy is what pages from here may do: use what comes from here, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; " +
	"frame-ancestors 'none'; base-uri 'none'; form-action 'self'; require-trusted-types-for 'script'"

// LoadToken returns the token of a state folder, which is made if there is none.
func LoadToken(dir string) (string, error) {
	file := filepath.Join(dir, "web-token")
	b, err := os.ReadFile(file)
	if text := strings.TrimSpace(string(b)); err == nil && len(text) == 64 {
		return text, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	token := randomText(32)
	return token, writeSecret(file, []byte(token+"\n"))
}

// writeSecret writes a file whole, that only its owner can read.
func writeSecret(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

func randomText(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

// keys are those that log in once.
type keys struct {
	mu  sync.Mutex // guards all
	all map[string]time.Time
}

func (k *keys) make() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.all == nil {
		k.all = make(map[string]time.Time)
	}
	for len(k.all) >= maxKeys {
		oldest := ""
		for key, at := range k.all {
			if oldest == "" || at.Before(k.all[oldest]) {
				oldest = key
			}
		}
		delete(k.all, oldest)
	}
	key := randomText(16)
	k.all[key] = time.Now()
	return key
}

// use says whether a key logs in; it does so once.
func (k *keys) use(key string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	made, ok := k.all[key]
	delete(k.all, key)
	return ok && time.Since(made) < keyLife
}

// Login is where a browser logs in, once.
type Login struct {
	URL         string `json:"url"`
	Fingerprint string `json:"fingerprint,omitempty"` // SHA-256 of a certificate that was made here, which browsers ask about
}

// door is what all that is served has in common: who is let in, and the page's files.
type door struct {
	token       string // that lets in over the network
	url         string // of the page; empty: it is not served
	fingerprint string // the fingerprint of a certificate that was made here
	cookie      string // its name: cookies are the host's, whatever the port
	command     string // that prints a link
	page        fs.FS  // nil: there is none
	explain     func(error) *daemon.Failure
	log         *slog.Logger
	keys        keys
	tokens      guesses
	cookies     guesses // apart, so that whoever guesses tokens does not shut out the page
	mux         *http.ServeMux
}

// guesses makes what is compared with a secret rare, once much of it was wrong. The zero value is ready.
type guesses struct {
	once  sync.Once
	wrong *rate.Limiter
}

// are says whether one more is looked at, and if so whether it is right.
func (g *guesses) are(guess, secret string) (looked, right bool) {
	g.once.Do(func() { g.wrong = rate.NewLimiter(guessRate, guessBurst) })
	if g.wrong.Tokens() < 1 {
		return false, false
	}
	if subtle.ConstantTimeCompare([]byte(guess), []byte(secret)) == 1 {
		return true, true
	}
	g.wrong.Allow()
	return true, false
}

func (s *door) newLogin(w http.ResponseWriter, r *http.Request) error {
	if err := wantJSON(r); err != nil {
		return err
	}
	if !isLocal(r) {
		return &refusal{http.StatusForbidden, "E-LOGIN", "links are made on this machine alone", "", "run  " + s.command + "  there"}
	}
	if s.url == "" {
		return &refusal{http.StatusConflict, "E-USAGE", "page and API are not served on any port", "it was started without --web", "start it with  --web 127.0.0.1:50080"}
	}
	return send(w, http.StatusCreated, Login{s.url + "/login?key=" + s.keys.make(), s.fingerprint})
}

// session is the cookie's value: it outlives the process, as the token does, and does not tell it.
func (s *door) session() string {
	h := hmac.New(sha256.New, []byte(s.token))
	h.Write([]byte("cookie"))
	return hex.EncodeToString(h.Sum(nil))
}

func (s *door) login(w http.ResponseWriter, r *http.Request) error {
	if !s.keys.use(r.URL.Query().Get("key")) {
		return &refusal{http.StatusForbidden, "E-LOGIN", "this link does not log in", "it works once, within ten minutes", s.command + "    prints a new one"}
	}
	http.SetCookie(w, &http.Cookie{ // #nosec G124 -- Secure where there is TLS: on the loopback there is none
		Name: s.cookie, Value: s.session(), Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode, MaxAge: 400 * 24 * 3600, Secure: r.TLS != nil,
	})
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return nil
}

// Web answers requests that come over the network to one of these hosts, HOST:PORT, or encrypted to the very address at which they arrive.
func (s *door) Web(hosts ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if err := s.admit(r, hosts); err != nil {
			s.fail(w, err)
			return
		}
		s.mux.ServeHTTP(w, r)
	})
}

// open says whether a path is for everybody: it tells nothing of what this peer does.
func open(p string) bool {
	return p == "/healthz" || p == "/readyz" || p == "/login" || !strings.HasPrefix(p, "/api/") && p != "/metrics"
}

// admit decides whether a request is answered.
func (s *door) admit(r *http.Request, hosts []string) error {
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	if !slices.Contains(hosts, strings.ToLower(r.Host)) && !atLocal(r) {
		return &refusal{
			http.StatusMisdirectedRequest, "E-HOST", "nothing here is called " + clean(r.Host), "another name may be a page's attempt to get in",
			"use " + scheme + hosts[0] + " , or start it with that address:  --web ADDR, or that name:  --web-name NAME",
		}
	}
	if origin := r.Header.Get("Origin"); origin != "" && strings.ToLower(origin) != scheme+strings.ToLower(r.Host) {
		return foreign(clean(origin))
	}
	site := r.Header.Get("Sec-Fetch-Site")
	if site == "cross-site" || site == "same-site" {
		// A link on another page may lead to ours, and to nothing else.
		if r.Method != http.MethodGet || r.Header.Get("Sec-Fetch-Mode") != "navigate" || !open(r.URL.Path) {
			return foreign("another page")
		}
	}
	if open(r.URL.Path) {
		return nil
	}
	return s.authorised(r)
}

// authorised says whether a request has the token, or the cookie that is made of it.
func (s *door) authorised(r *http.Request) error {
	looked, right := true, false
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		if looked, right = s.tokens.are(strings.TrimSpace(token), s.token); right {
			return nil
		}
	} else if c, err := r.Cookie(s.cookie); err == nil {
		looked, right = s.cookies.are(c.Value, s.session())
	}
	if !looked {
		return &refusal{
			http.StatusTooManyRequests, "E-TOKEN", "too many wrong tokens came: they are looked at one a second now", "another program may be guessing",
			"wait a moment, or use the commands on the machine itself",
		}
	}
	if right {
		if r.Method == http.MethodGet || r.Method == http.MethodHead || r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") == "same-origin" {
			return nil
		}
		return foreign("a program that does not say so, with a browser's cookie")
	}
	return &refusal{
		http.StatusUnauthorized, "E-TOKEN", "the token of this peer is needed", "it is in the file web-token of the state folder",
		s.command + "    prints a link for a browser; a program sends  Authorization: Bearer TOKEN",
	}
}

func foreign(who string) error {
	return &refusal{http.StatusForbidden, "E-ORIGIN", "the request comes from " + who, "only this peer's own page may ask", "open the page with  shoal web"}
}

// clean makes text from elsewhere fit for a line.
func clean(s string) string {
	if len(s) > 200 {
		s = s[:200]
	}
	return fmt.Sprintf("%q", s)
}

// files hands out the page's files, or says that there is none.
func (s *door) files(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
	if name == "" {
		name = "index.html"
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead || strings.HasPrefix(name, "api/") {
		s.fail(w, &refusal{http.StatusNotFound, "E-USAGE", "there is nothing at " + r.Method + " " + clean(r.URL.Path), "", "see /api/v1/openapi.json"})
		return
	}
	var b []byte
	err := fs.ErrNotExist
	if s.page != nil {
		b, err = fs.ReadFile(s.page, name)
	}
	switch {
	case err != nil && name == "index.html":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintln(w, "shoal: this build has no page. The API is at /api/v1, described by /api/v1/openapi.json.")
	case err != nil:
		s.fail(w, &refusal{http.StatusNotFound, "E-USAGE", "there is nothing at " + clean(r.URL.Path), "", "open the page with  shoal web"})
	default:
		sum := sha256.Sum256(b)
		w.Header().Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:8])+`"`)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(b)))
	}
}

// Hosts are the names by which a listener on the loopback is reached.
func Hosts(ln net.Listener) []string {
	a := ln.Addr().(*net.TCPAddr)
	port := fmt.Sprint(a.Port)
	out := []string{strings.ToLower(net.JoinHostPort(a.IP.String(), port))}
	for _, h := range []string{"localhost", "127.0.0.1", "::1"} {
		if s := net.JoinHostPort(h, port); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

package api

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The certificate that is made here is kept as long as it fits, and only its owner can read it.
func TestOwnCertificateIsKeptWhileItFits(t *testing.T) {
	dir := t.TempDir()
	first, err := OwnCertificate(dir, []string{"10.0.0.5", "lab-1"})
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(filepath.Join(dir, "web-certificate.pem")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("its file: %v, %v", fi.Mode(), err)
	}
	for _, c := range []struct {
		names []string
		same  bool
	}{{[]string{"lab-1"}, true}, {[]string{"10.0.0.5", "lab-1"}, true}, {[]string{"10.0.0.6"}, false}} {
		again, err := OwnCertificate(dir, c.names)
		if err != nil {
			t.Fatal(err)
		}
		if same := Fingerprint(again) == Fingerprint(first); same != c.same {
			t.Errorf("%v: the same certificate: %v", c.names, same)
		}
		for _, n := range c.names {
			if err := again.Leaf.VerifyHostname(n); err != nil {
				t.Error(err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "web-certificate.pem"), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OwnCertificate(dir, []string{"lab-1"}); err != nil {
		t.Errorf("a file that is none: %v", err)
	}
}

// A certificate that is renewed is used without a restart, and one that is broken is not.
func TestAGivenCertificateIsReadAgain(t *testing.T) {
	a, b, dir := t.TempDir(), t.TempDir(), t.TempDir()
	old, err := OwnCertificate(a, []string{"one"})
	if err != nil {
		t.Fatal(err)
	}
	renewed, err := OwnCertificate(b, []string{"one"})
	if err != nil {
		t.Fatal(err)
	}
	path, age := filepath.Join(dir, "c.pem"), time.Hour
	put := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		age -= time.Minute
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	read := func(dir string) []byte {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, "web-certificate.pem"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	put(read(a))
	g, err := NewGivenCertificate(path, path)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		text []byte
		want tls.Certificate
	}{{read(a), old}, {[]byte("half a fi"), old}, {read(b), renewed}} {
		put(step.text)
		if got, err := g.Get(nil); err != nil || Fingerprint(*got) != Fingerprint(step.want) {
			t.Errorf("another certificate (%v)", err)
		}
	}
	if _, err := NewGivenCertificate(path, filepath.Join(dir, "none")); err == nil {
		t.Error("a key that is missing is no error")
	}
}

// Over TLS the page answers to the address at which it is asked and to its names, with a token alone; and it speaks nothing else.
func TestThePageOverTLS(t *testing.T) {
	l := newLab(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := OwnCertificate(t.TempDir(), []string{"127.0.0.1", "lab-1"})
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	done := make(chan error, 1)
	go func() {
		done <- l.s.Serve(t.Context(), Secure(ln, func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }), l.s.Web("lab-1:"+port))
	}()
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	base := "https://127.0.0.1:" + port
	key := l.s.keys.make()
	for _, c := range []struct {
		what, method, path string
		host, origin       string
		token              string
		status             int
	}{
		{"the address", "GET", "/api/v1/status", "", "", token, 200},
		{"a name of it", "GET", "/api/v1/status", "lab-1:" + port, "", token, 200},
		{"another name", "GET", "/api/v1/status", "evil.example:" + port, "", token, 421},
		{"another address", "GET", "/api/v1/status", "127.0.0.2:" + port, "", token, 421},
		{"another port", "GET", "/api/v1/status", "127.0.0.1:1", "", token, 421},
		{"no token", "GET", "/api/v1/status", "", "", "", 401},
		{"a wrong token", "GET", "/metrics", "", "", "f" + token[1:], 401},
		{"its own page", "GET", "/api/v1/status", "", base, token, 200},
		{"the page in the clear", "GET", "/api/v1/status", "", "http://127.0.0.1:" + port, token, 403},
		{"a link", "GET", "/login?key=" + key, "", "", "", 303},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, base+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if req.Host = c.host; c.host == "" {
			req.Host = "127.0.0.1:" + port
		}
		if c.origin != "" {
			req.Header.Set("Origin", c.origin)
		}
		if c.token != "" {
			req.Header.Set("Authorization", "Bearer "+c.token)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		res.Body.Close()
		if res.StatusCode != c.status {
			t.Errorf("%s: status %d, want %d", c.what, res.StatusCode, c.status)
		}
		if c.status == 303 && !strings.Contains(res.Header.Get("Set-Cookie"), "; Secure") {
			t.Errorf("the cookie would go in the clear: %s", res.Header.Get("Set-Cookie"))
		}
	}
	plain, err := http.Get("http://127.0.0.1:" + port + "/healthz")
	if err == nil {
		plain.Body.Close()
		if plain.StatusCode != http.StatusBadRequest {
			t.Errorf("in the clear it answers with %d", plain.StatusCode)
		}
	}
}

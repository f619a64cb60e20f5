//go:build linux

package e2e_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A browser on another machine comes in with the link, over TLS, to the certificate whose fingerprint was printed; without the link it is not
// let in, and in the clear nothing is said.
func TestThePageOnTheNetwork(t *testing.T) {
	t.Parallel()
	requireSpaces(t, syscall.CLONE_NEWNET, "ip", "nsenter", "sh")
	m := network(t, 2)
	a := newHost(t, m[0].within())
	peer := command{args: []string{"peer", "--state", a.state, "--web", "0.0.0.0:50080", "--server-listen", "", "--json"}, within: a.within}.start(t)
	peer.await("running", is("running"))
	p := a.shoal("web")
	link := p.await("a link", is("web"))
	if !strings.HasPrefix(link.URL, "https://10.0.0.1:50080/login?key=") {
		t.Fatalf("the link is %s", link.URL)
	}
	text, err := os.ReadFile(filepath.Join(a.state, "web-certificate.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	sum := sha256.Sum256(block.Bytes)
	if want := fmt.Sprintf("%X", sum); strings.ReplaceAll(link.Fingerprint, ":", "") != want {
		t.Errorf("the fingerprint is %s, the certificate's is %s", link.Fingerprint, want)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	dial := func(_ context.Context, _, addr string) (net.Conn, error) { return m[1].dial(addr), nil }
	browser := &http.Client{Jar: jar, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DialContext: dial}}
	defer browser.CloseIdleConnections()
	get := func(url string) (status int, body string) {
		t.Helper()
		res, err := browser.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var b json.RawMessage
		_ = json.NewDecoder(res.Body).Decode(&b)
		return res.StatusCode, string(b)
	}
	const status = "https://10.0.0.1:50080/api/v1/status"
	if code, body := get(status); code != http.StatusUnauthorized || !strings.Contains(body, "E-TOKEN") {
		t.Errorf("a stranger: %d %s", code, body)
	}
	if code, _ := get(link.URL); code != http.StatusOK {
		t.Errorf("the link: %d", code)
	}
	if code, body := get(status); code != http.StatusOK || !strings.Contains(body, `"started"`) {
		t.Errorf("who came by the link: %d %s", code, body)
	}
	if code, _ := get(link.URL); code != http.StatusForbidden {
		t.Errorf("the link once more: %d", code)
	}
	if u, _ := url.Parse(status); len(jar.Cookies(u)) != 1 || len(jar.Cookies(&url.URL{Scheme: "http", Host: u.Host})) != 0 {
		t.Error("the cookie is missing, or goes in the clear")
	}
	if code, _ := get("http://10.0.0.1:50080/healthz"); code != http.StatusBadRequest {
		t.Errorf("in the clear: %d", code)
	}
}

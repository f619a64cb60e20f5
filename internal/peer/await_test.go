package peer

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// record makes a TLS record with so many bytes behind its header.
func record(n int) []byte { return append([]byte{23, 3, 3, byte(n >> 8), byte(n)}, make([]byte, n)...) }

func TestAReaderIsWokenForAllThatMustCome(t *testing.T) {
	for _, c := range []struct {
		name   string
		come   []byte
		expect int
		want   int
	}{
		{"nothing is known", nil, 0, 1},
		{"a small frame", nil, minAwait - 1, 1},
		{"a frame", nil, 20000, 20000},
		{"a large one", nil, 1 << 20, maxAwait},
		{"within a header", record(16401)[:3], 0, 1},
		{"within a record", record(16401)[:1005], 0, 15401},
		{"near its end", record(16401)[:16000], 0, 1},
		{"a record, and more of the frame", record(16401)[:1005], 40000, 15401 + 40000 - 16384},
		{"a record that is more than the frame", record(16401)[:1005], 5000, 15401},
		{"a whole record", record(16401), 20000, 20000},
		{"the second", append(record(50), record(9000)[:5]...), 0, 9000},
		{"an empty one", record(0), 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, step := range []int{1, 7, 1 << 20} {
				r := records{expect: c.expect}
				for b := c.come; len(b) > 0; b = b[min(step, len(b)):] {
					r.pass(b[:min(step, len(b))])
				}
				if got := r.await(); got != c.want {
					t.Errorf("in steps of %d: it waits for %d, want %d", step, got, c.want)
				}
			}
		})
	}
}

// Whatever is written, and however it is cut: over a real socket, a reader that says what it expects always gets it.
func TestNobodyWaitsForMoreThanComes(t *testing.T) {
	cert := selfSigned(t)
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(1, 100_000), 1, 8).Draw(t, "sizes")
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		sent := make(chan error, 1)
		go func() {
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				sent <- err
				return
			}
			defer conn.Close()
			out := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
			for i, n := range sizes {
				if _, err := out.Write(bytes.Repeat([]byte{byte(i)}, n)); err != nil {
					sent <- err
					return
				}
			}
			one := make([]byte, 1)
			_, err = out.Read(one) // all that is written is to be read without more coming
			sent <- err
		}()
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		under := Coalesce(conn)
		in := tls.Server(under, &tls.Config{Certificates: []tls.Certificate{cert}})
		if err := in.Handshake(); err != nil {
			t.Fatal(err)
		}
		for i, n := range sizes {
			buf := make([]byte, n)
			for at := 0; at < n; {
				under.Expect(n - at)
				k, err := in.Read(buf[at:])
				if err != nil {
					t.Fatal(err)
				}
				at += k
			}
			under.Expect(0)
			if !bytes.Equal(buf, bytes.Repeat([]byte{byte(i)}, n)) {
				t.Fatalf("part %d is not what was written", i)
			}
		}
		if _, err := in.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		if err := <-sent; err != nil && err != io.EOF {
			t.Fatal(err)
		}
	})
}

// counted counts the reads of a connection.
type counted struct {
	*net.TCPConn
	reads int
}

func (c *counted) NetConn() net.Conn { return c.TCPConn }

func (c *counted) Read(b []byte) (int, error) {
	c.reads++
	return c.TCPConn.Read(b)
}

// A record that comes in many packets wakes its reader twice: with its header, and when it is whole.
func TestARecordWakesItsReaderTwice(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux can be told")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	out, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := &counted{TCPConn: conn.(*net.TCPConn)}
	under := Coalesce(in)
	under.Widen()
	go func() {
		for part := range slices.Chunk(record(16<<10), 512) {
			if _, err := out.Write(part); err != nil {
				return // the reader fails, too
			}
			time.Sleep(time.Millisecond) // packets of their own, for the most part
		}
	}()
	if _, err := io.ReadFull(under, make([]byte, recordHead+16<<10)); err != nil {
		t.Fatal(err)
	}
	if in.reads > 12 {
		t.Errorf("%d reads", in.reads)
	}
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

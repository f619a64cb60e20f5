//go:build linux

package e2e_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestAFileOfAnySizeComesFromAnyNumberOfSharers(t *testing.T) {
	t.Parallel()
	for _, sharers := range []int{1, 2, 4, 7} {
		for _, size := range []int64{1, chunk - 1, chunk, chunk + 1, 200_000_003} {
			t.Run(fmt.Sprintf("%d bytes from %d", size, sharers), func(t *testing.T) {
				t.Parallel()
				path := file(t, size)
				name := filepath.Base(path)
				s := newSwarm(t)
				for range sharers {
					s.share(path)
				}
				dir := t.TempDir()
				done := s.get(name, dir).succeeds()
				sameContent(t, filepath.Join(dir, name), path)
				holdsOnly(t, dir, name)
				if done.Size != size || done.Resumed != 0 || done.Fetched < size || done.Verified || done.Already {
					t.Errorf("told of %+v", done)
				}
				if done.Sources < 1 || done.Sources > sharers {
					t.Errorf("told of %d sources, there are %d sharers", done.Sources, sharers)
				}
			})
		}
	}
}

func TestNeitherEndOfADownloadNeedsMuchMemory(t *testing.T) {
	t.Parallel()
	if raceEnabled {
		t.Skip("left out: the race detector has memory of its own")
	}
	path := file(t, 200_000_003)
	s := newSwarm(t)
	sharer := s.share(path)
	for range 6 {
		s.share(path)
	}
	get := s.get(filepath.Base(path), t.TempDir())
	ofGetter, ofSharer := get.mostMemory(), sharer.mostMemory()
	get.succeeds()
	sharer.kill()
	for what, memory := range map[string]int64{"downloader": ofGetter(), "sharer": ofSharer()} {
		if memory == 0 || memory > 64<<20 {
			t.Errorf("the %s used %d bytes of memory, want at most 64 MiB", what, memory)
		}
	}
}

// held starts sharers behind relays, and a download of which each connection carries only so much.
func held(t *testing.T, s *swarm, path, dir string, sharers int, allowance int64, args ...string) (*process, []*process, []*proxy) {
	t.Helper()
	var holders []*process
	var proxies []*proxy
	for range sharers {
		holder, px := s.shareThrough(path)
		px.Allow(allowance)
		holders, proxies = append(holders, holder), append(proxies, px)
	}
	return s.get(filepath.Base(path), dir, args...), holders, proxies
}

func TestAllSharersDeliverAtOnce(t *testing.T) {
	t.Parallel()
	path := file(t, 200_000_003)
	get, _, proxies := held(t, newSwarm(t), path, t.TempDir(), 4, chunk/8)
	for _, px := range proxies {
		px.awaitHold(t) // each is in the middle of a chunk, and stays there
	}
	for _, px := range proxies {
		px.Allow(-1)
	}
	done := get.succeeds()
	if done.Sources != len(proxies) {
		t.Errorf("told of %d sources, want %d", done.Sources, len(proxies))
	}
	sameContent(t, done.Path, path)
}

func TestASharerKilledInMidChunkIsReplacedByTheOthers(t *testing.T) {
	t.Parallel()
	path := file(t, 6*chunk)
	name := filepath.Base(path)
	dir := t.TempDir()
	s := newSwarm(t)
	// All are held, so that no other takes over the victim's chunk before it dies.
	get, sharers, proxies := held(t, s, path, dir, 3, chunk/2)
	proxies[0].awaitHold(t)
	sharers[0].kill()
	for _, px := range proxies {
		px.Allow(-1)
	}
	get.succeeds()
	if _, most := proxies[0].Carried(); most >= chunk {
		t.Errorf("the victim sent %d bytes before it died: not the middle of a chunk", most)
	}
	sameContent(t, filepath.Join(dir, name), path)
	holdsOnly(t, dir, name)
}

func TestADownloadGoesOnWithoutItsServerAndTheMembersComeBackToANewOne(t *testing.T) {
	t.Parallel()
	path := file(t, 200_000_003)
	name := filepath.Base(path)
	dir := t.TempDir()
	s := newSwarm(t)
	get, _, proxies := held(t, s, path, dir, 2, chunk/2, "--stay")
	for _, px := range proxies {
		px.awaitHold(t)
	}
	s.server.kill()
	for _, px := range proxies {
		px.Allow(-1)
	}
	get.await("done", is("done"))
	sameContent(t, filepath.Join(dir, name), path)

	s.restart()
	eventually(t, "both sharers and the downloader are back", func() bool {
		peers := strings.Join(s.peers(), " ")
		return len(strings.Fields(peers)) == 3 &&
			strings.Contains(peers, proxies[0].addr) && strings.Contains(peers, proxies[1].addr)
	})
	again := t.TempDir()
	s.get(name, again).succeeds()
	sameContent(t, filepath.Join(again, name), path)
}

// interrupted downloads a file until some of its chunks are recorded, and ends the download with a signal in the
// middle of others. It returns the relays in front of the holders, which let everything pass from then on.
func interrupted(t *testing.T, s *swarm, path, dir string, sig syscall.Signal, args ...string) (sharers []*process, proxies []*proxy) {
	t.Helper()
	get, sharers, proxies := held(t, s, path, dir, 2, aMoment, args...)
	get.await("start", is("start"))
	journals, _ := filepath.Glob(filepath.Join(dir, ".shoal-*", "journal"))
	if len(journals) != 1 {
		t.Fatalf("%d journals in %s, want 1", len(journals), dir)
	}
	empty, err := os.Stat(journals[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, px := range proxies {
		px.Allow(chunk + chunk/2)
	}
	for _, px := range proxies {
		px.awaitHold(t)
	}
	eventually(t, "chunks are in the journal", func() bool {
		now, err := os.Stat(journals[0])
		return err == nil && now.Size() > empty.Size()
	})
	get.signal(sig)
	get.exit()
	for _, px := range proxies {
		px.Allow(-1)
		px.Forget()
	}
	return sharers, proxies
}

func TestAnEndedDownloadResumes(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT} {
		for _, layout := range []string{"", "--chunk-files"} {
			t.Run(strings.TrimSpace(sig.String()+" "+layout), func(t *testing.T) {
				t.Parallel()
				path := file(t, 200_000_003)
				name := filepath.Base(path)
				dir := t.TempDir()
				s := newSwarm(t)
				args := strings.Fields(layout)
				_, proxies := interrupted(t, s, path, dir, sig, args...)

				get := s.get(name, dir, args...)
				start := get.await("start", is("start"))
				done := get.succeeds()
				if start.Resumed < chunk || start.Resumed != done.Resumed {
					t.Errorf("resumed with %d bytes, at the end %d; want at least one chunk", start.Resumed, done.Resumed)
				}
				wire := int64(0)
				for _, px := range proxies {
					total, _ := px.Carried()
					wire += total
				}
				if most := done.Size - start.Resumed + chunk*int64(len(proxies)); wire > most {
					t.Errorf("%d bytes came over the wire, want at most %d", wire, most)
				}
				sameContent(t, filepath.Join(dir, name), path)
				holdsOnly(t, dir, name)
			})
		}
	}
}

func TestADownloadStoppedByItsUserSaysSoByItsExitCode(t *testing.T) {
	t.Parallel()
	for sig, want := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			get, _, _ := held(t, newSwarm(t), file(t, chunk+1), t.TempDir(), 1, aMoment)
			get.await("start", is("start"))
			get.signal(sig)
			if got := get.exit(); got != want {
				t.Errorf("exit code %d, want %d", got, want)
			}
		})
	}
}

func TestTwoFilesOfOneNameAreNeverMixed(t *testing.T) {
	t.Parallel()
	for what, sizes := range map[string][2]int64{
		"other number of chunks": {chunk + 1, 2*chunk + 1},
		"other last chunk":       {chunk + 1, chunk + 2},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newSwarm(t)
			var paths, addrs [2]string
			for i, size := range sizes {
				paths[i] = filepath.Join(t.TempDir(), "one-name.img")
				write(t, paths[i], size, byte(i+1))
				// Each on an address of its own, so that the address alone tells them apart.
				own := ownAddress()
				addrs[i] = s.share(paths[i], "--listen", own+":0", "--advertise", own).await("sharing", is("sharing")).Addr
			}
			dir := t.TempDir()
			s.get("one-name.img", dir).fails(4, "E-TWO-CONTENTS")
			holdsOnly(t, dir)

			for i, addr := range addrs {
				dir := t.TempDir()
				s.get("one-name.img", dir, "--from", addr).succeeds()
				sameContent(t, filepath.Join(dir, "one-name.img"), paths[i])

				host, _, _ := strings.Cut(addr, ":")
				dir = t.TempDir()
				s.get("one-name.img", dir, "--from", host).succeeds()
				sameContent(t, filepath.Join(dir, "one-name.img"), paths[i])
			}
		})
	}
}

func TestResumeRefusesAnotherFileAndRestartTakesIt(t *testing.T) {
	t.Parallel()
	for _, layout := range []string{"", "--chunk-files"} {
		t.Run("get "+layout, func(t *testing.T) {
			t.Parallel()
			args := strings.Fields(layout)
			path := filepath.Join(t.TempDir(), "changing.img")
			write(t, path, 200_000_003, 1)
			dir := t.TempDir()
			s := newSwarm(t)
			sharers, _ := interrupted(t, s, path, dir, syscall.SIGKILL, args...)
			for _, p := range sharers {
				p.kill()
			}
			write(t, path, 200_000_004, 2)
			s.share(path)

			s.get("changing.img", dir, args...).fails(6, "E-SOURCE-CHANGED")
			if _, err := os.Stat(filepath.Join(dir, "changing.img")); err == nil {
				t.Error("a file of that name was made")
			}
			if done := s.get("changing.img", dir, append(args, "--restart")...).succeeds(); done.Resumed != 0 {
				t.Errorf("resumed with %d bytes of the other file", done.Resumed)
			}
			sameContent(t, filepath.Join(dir, "changing.img"), path)
			holdsOnly(t, dir, "changing.img")
		})
	}
}

func TestChunkFilesAreThereDuringTheDownloadAndGoneAfterIt(t *testing.T) {
	t.Parallel()
	path := file(t, 200_000_003)
	name := filepath.Base(path)
	dir := t.TempDir()
	get, _, proxies := held(t, newSwarm(t), path, dir, 1, 2*chunk+chunk/2, "--chunk-files")
	proxies[0].awaitHold(t)
	for i := range 3 {
		eventually(t, fmt.Sprintf("%d.p2p is there", i), func() bool {
			_, err := os.Stat(filepath.Join(dir, fmt.Sprintf("%d.p2p", i)))
			return err == nil
		})
	}
	proxies[0].Allow(-1)
	get.succeeds()
	sameContent(t, filepath.Join(dir, name), path)
	holdsOnly(t, dir, name)
}

func TestWhoHasDownloadedServesOthers(t *testing.T) {
	t.Parallel()
	path := file(t, chunk+1)
	name := filepath.Base(path)
	s := newSwarm(t)
	sharer := s.share(path)
	// It has the file under another name in its folder, and shares it under the one that it asked for.
	s.get(name, filepath.Join(t.TempDir(), "renamed"), "--stay").await("done", is("done"))
	sharer.kill()
	dir := t.TempDir()
	s.get(name, dir).succeeds()
	sameContent(t, filepath.Join(dir, name), path)
}

func TestADownloadCanWaitForItsFirstSharer(t *testing.T) {
	t.Parallel()
	path := file(t, chunk+1)
	name := filepath.Base(path)
	s := newSwarm(t)
	dir := t.TempDir()
	get := s.get(name, dir, "--wait")
	eventually(t, "the downloader is in the swarm", func() bool { return len(s.peers()) == 1 })
	s.share(path)
	get.succeeds()
	sameContent(t, filepath.Join(dir, name), path)
}

func TestThreeDownloadersAtOnce(t *testing.T) {
	t.Parallel()
	path := file(t, 200_000_003)
	name := filepath.Base(path)
	s := newSwarm(t)
	for range 2 {
		s.share(path)
	}
	var dirs [3]string
	var gets [3]*process
	for i := range gets {
		dirs[i] = t.TempDir()
		gets[i] = s.get(name, dirs[i])
	}
	for i, get := range gets {
		get.succeeds()
		sameContent(t, filepath.Join(dirs[i], name), path)
	}
}

func TestASecondDownloadIntoTheSameFileIsRefused(t *testing.T) {
	t.Parallel()
	path := file(t, chunk+1)
	dir := t.TempDir()
	s := newSwarm(t)
	get, _, proxies := held(t, s, path, dir, 1, aMoment)
	get.await("start", is("start"))
	s.get(filepath.Base(path), dir).fails(8, "E-LOCKED")
	proxies[0].Allow(-1)
	get.succeeds()
	sameContent(t, filepath.Join(dir, filepath.Base(path)), path)
}

func TestAFileThatIsThereAlreadyCanBeSharedAtOnce(t *testing.T) {
	t.Parallel()
	path := file(t, chunk+1)
	name := filepath.Base(path)
	s := newSwarm(t)
	sharer := s.share(path)
	there := t.TempDir()
	s.get(name, there).succeeds()
	sharer.kill()
	again := s.get(name, there, "--stay", "--sha256", digest(t, path))
	again.await("sharing", is("sharing"))
	times := 0
	again.mu.Lock()
	for _, e := range again.events {
		if e.T == "done" {
			times++
		}
	}
	again.mu.Unlock()
	if times != 1 {
		t.Errorf("told %d times that it is done, want once", times)
	}
	dir := t.TempDir()
	s.get(name, dir).succeeds()
	sameContent(t, filepath.Join(dir, name), path)
}

func TestAnyNameThatTheProtocolAllowsCanBeSharedAndFetched(t *testing.T) {
	t.Parallel()
	for what, name := range map[string]string{
		"spaces":        " a b ",
		"a dash first":  "-rf",
		"quotes":        `it's "it".img`,
		"formats":       "%s%n%d.img",
		"other letters": "größe-大小.img",
		"hidden":        ".hidden",
		"254 bytes":     strings.Repeat("n", 254),
		"no UTF-8":      "a\xff\xfe.img",
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), name)
			write(t, path, 1000, 0)
			s := newSwarm(t)
			s.share(path)
			for _, layout := range []string{"", "--chunk-files"} {
				dir := t.TempDir()
				args := append([]string{"get", "--classic", "--json", "--server", s.addr, "-o", dir}, strings.Fields(layout)...)
				command{args: append(args, "--", name)}.start(t).succeeds()
				sameContent(t, filepath.Join(dir, name), path)
				holdsOnly(t, dir, name)
			}
		})
	}
}

func TestOneSharerSharesSeveralFilesAndOneUnderAnotherName(t *testing.T) {
	t.Parallel()
	s := newSwarm(t)
	a, b := file(t, chunk), file(t, chunk+1)
	s.share(a, b)
	s.share(a, "--name", "other.img")
	dir := t.TempDir()
	for name, path := range map[string]string{filepath.Base(a): a, filepath.Base(b): b, "other.img": a} {
		s.get(name, dir).succeeds()
		sameContent(t, filepath.Join(dir, name), path)
	}
}

// A holder may be slow. Only one that does not move is stalled.
func TestASlowHolderIsNotTakenForAStalledOne(t *testing.T) {
	t.Parallel()
	const size, rate = 1_500_000, 200_000
	path := file(t, size)
	s := newSwarm(t)
	rawSeeder(t, s.addr, path, func(c net.Conn, request []byte) bool {
		if request[0] != chunkRequest {
			return false
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return false
		}
		_, _ = c.Write(header(chunkResponse, "", 0, 0, 0, 0, size))
		drip(c, content, rate)
		return true
	})
	dir := t.TempDir()
	s.get(filepath.Base(path), dir, "--timeout", "3s").succeeds()
	sameContent(t, filepath.Join(dir, filepath.Base(path)), path)
}

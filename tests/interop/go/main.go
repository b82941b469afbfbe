// Interop peer on hashicorp/yamux, the implementation the protocol comes from.
//
//	peer listen  ADDR [--window W]
//	peer connect ADDR --streams N --bytes B [--seed S] [--window W] [--ping]
//
// The server echoes every stream until the client half-closes it. The client
// checks that each stream returns exactly the bytes it sent.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"
)

const (
	// How many goroutines call OpenStream concurrently. The library takes the
	// stream id and queues the SYN in two steps, so this makes it send SYNs
	// out of order.
	openers = 64
	// How many streams may be live at once: the library's accept backlog.
	// Peers may reset streams that exceed it.
	maxLive = 256
	// How long the client waits without any progress before it gives up.
	stallAfter = 20 * time.Second
)

func main() {
	if len(os.Args) < 3 {
		fail("usage: peer listen|connect ADDR [flags]")
	}
	command, addr := os.Args[1], os.Args[2]

	flags := flag.NewFlagSet(command, flag.ExitOnError)
	streams := flags.Int("streams", 1, "number of streams to open")
	size := flags.Int("bytes", 0, "bytes to send on each stream")
	seed := flags.Int64("seed", 1, "seed of the payload and the chunk sizes")
	window := flags.Uint("window", 256*1024, "receive window of a stream")
	ping := flags.Bool("ping", false, "measure the round-trip time first")
	flags.Parse(os.Args[3:])

	config := yamux.DefaultConfig()
	config.MaxStreamWindowSize = uint32(*window)

	switch command {
	case "listen":
		listen(addr, config)
	case "connect":
		client := newClient(addr, config)
		if *ping {
			client.ping()
		}
		client.run(*streams, *size, *seed)
		fmt.Printf("ok streams=%d bytes=%d\n", *streams, *size)
	default:
		fail("unknown command %q", command)
	}
}

func fail(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

func listen(addr string, config *yamux.Config) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		fail("listen: %v", err)
	}
	fmt.Println("listening", listener.Addr())
	for {
		conn, err := listener.Accept()
		if err != nil {
			fail("accept: %v", err)
		}
		session, err := yamux.Server(conn, config)
		if err != nil {
			fail("session: %v", err)
		}
		go serve(session)
	}
}

func serve(session *yamux.Session) {
	for {
		stream, err := session.AcceptStream()
		if err != nil {
			if err != io.EOF {
				fmt.Fprintln(os.Stderr, "session:", err)
			}
			return
		}
		go func() {
			if _, err := io.Copy(stream, stream); err != nil {
				fmt.Fprintf(os.Stderr, "stream %d: %v\n", stream.StreamID(), err)
			}
			stream.Close()
		}()
	}
}

type client struct {
	session *yamux.Session
	stall   *time.Timer
}

func newClient(addr string, config *yamux.Config) *client {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		fail("connect: %v", err)
	}
	fmt.Println("connected", addr)
	session, err := yamux.Client(conn, config)
	if err != nil {
		fail("session: %v", err)
	}
	stall := time.AfterFunc(stallAfter, func() {
		fail("no progress for %v, %d streams open in the library", stallAfter, session.NumStreams())
	})
	return &client{session, stall}
}

func (c *client) ping() {
	rtt, err := c.session.Ping()
	if err != nil {
		fail("ping: %v", err)
	}
	fmt.Println("ping", rtt)
}

func (c *client) run(count, size int, seed int64) {
	streams := make([]*yamux.Stream, count)
	live := make(chan struct{}, maxLive)
	indices := make(chan int)

	// No stream of the first batch is closed before all of them are open, so
	// that they are open at the same time even if they carry nothing.
	var opened, finished sync.WaitGroup
	opened.Add(min(count, maxLive))
	finished.Add(count)

	for o := 0; o < openers; o++ {
		go func() {
			for i := range indices {
				stream, err := c.session.OpenStream()
				if err != nil {
					fail("open: %v", err)
				}
				streams[i] = stream
				if i < maxLive {
					opened.Done()
				}
				go func(i int) {
					c.exchange(stream, size, seed+int64(i), &opened)
					<-live
					finished.Done()
				}(i)
			}
		}()
	}
	for i := 0; i < count; i++ {
		live <- struct{}{}
		indices <- i
	}
	close(indices)
	finished.Wait()

	c.awaitEnd(streams)
	c.session.GoAway()
	c.session.Close()
}

// exchange sends size bytes, half-closes the stream and checks the echo. It
// sends and receives concurrently: once both windows are full, a peer that
// echoes reads no more until its echo is read.
func (c *client) exchange(stream *yamux.Stream, size int, seed int64, opened *sync.WaitGroup) {
	id := stream.StreamID()
	rng := rand.New(rand.NewSource(seed))
	payload := make([]byte, size)
	rng.Read(payload)

	var closed atomic.Bool
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for rest := payload; len(rest) > 0; {
			n := min(chunkSize(rng), len(rest))
			if _, err := stream.Write(rest[:n]); err != nil {
				fail("stream %d: write: %v", id, err)
			}
			rest = rest[n:]
		}
		opened.Wait()
		closed.Store(true)
		stream.Close()
	}()

	buf := make([]byte, 64*1024)
	for got := 0; got < size; {
		n, err := stream.Read(buf)
		if n > size-got || !bytes.Equal(buf[:n], payload[got:got+n]) {
			fail("stream %d: wrong echo after %d of %d bytes", id, got, size)
		}
		got += n
		if n > 0 {
			c.stall.Reset(stallAfter)
		}
		// After Close this version of the library reports EOF whenever its
		// buffer is empty, even though more data is still to come.
		if err == io.EOF && closed.Load() && !c.session.IsClosed() {
			time.Sleep(time.Millisecond)
		} else if err != nil {
			fail("stream %d: read after %d of %d bytes: %v", id, got, size, err)
		}
	}
	<-sent
}

// awaitEnd waits until the peer has finished every stream, then checks that it
// did so with a FIN and sent nothing beyond the echo.
func (c *client) awaitEnd(streams []*yamux.Stream) {
	for c.session.NumStreams() > 0 {
		if c.session.IsClosed() {
			fail("session ended with %d streams open", c.session.NumStreams())
		}
		time.Sleep(time.Millisecond)
	}
	for _, stream := range streams {
		if n, err := stream.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			fail("stream %d: expected EOF, read %d bytes: %v", stream.StreamID(), n, err)
		}
	}
}

// chunkSize picks from 1 byte to 128 KiB, with every magnitude equally likely.
func chunkSize(rng *rand.Rand) int {
	return 1 + rng.Intn(1<<rng.Intn(18))
}

func min(a, b int) int {
	if a < b {
		return a
	}
	return b
}

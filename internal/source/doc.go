// Package source defines what a source of captured packets is: frames in batches, with times. Its
// subpackages are the sources, and what they are made of:
//
//   - afpacket captures on this host's interfaces.
//   - mirror receives what a cloud (VXLAN, GENEVE) or a switch mirrors here.
//   - agents receives what agents send; agent is the sending end, on a production host.
//   - file yields the packets of capture files when they are due; capfile reads and writes the
//     format, schedule computes the times, and recording writes the files of tcpcopy record.
//   - filter compiles filter expressions for the kernel.
//   - locals follows the addresses of this host.
//
// The engine's reader goroutine calls one source. The packages import core, proto and sys, and
// agent and agents import way/link. They never interpret TCP and never choose: which frames count,
// and which of two sightings of a packet to believe, is the caller's decision. They must not delay
// production; a source that cannot keep up loses packets and counts them.
//
// Read source.go first, then afpacket.
package source

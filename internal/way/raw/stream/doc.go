// Package stream is the raw way within one shard: the streams of its copies, each with a TCP
// connection of our own (package tcp), found by the tuple that the target sees.
//
// It is pure. A Table takes in what the intercepts report, and hands out segments, and messages for
// the intercepts. Package raw, which owns a shard's sockets and the links to the intercepts, moves
// both; the shard calls Open and Poll. Start with Table, then the states of a Stream below.
//
// # States of a Stream
//
// A Stream is in one of these states:
//
//	Failed   it cannot begin; its session learns that at the next Poll
//	Queued   it waits for another Stream with the same tuple to end
//	Opening  its SYN is due, or was sent
//	Open     the target has accepted the connection
//	Shut     the target has ended its direction as well
//	Over     nothing follows; the Stream may be used again for another copy
//
// The table names what each event does in each state, and after a colon the state that follows, if
// it is another one. Names of session events (Reset is ResetByPeer) mean that the session is told.
// A dot means that the event changes nothing, a dash that it cannot occur.
//
//	event       Failed        Queued          Opening       Open                  Shut
//	Release     keep          keep            pass on       pass on               pass on
//	CloseWrite  keep          keep            pass on       pass on               pass on
//	Abort       remove: Over  remove: Over    reset: Over   reset: Over           reset: Over
//	Poll        Failed: Over  .               send          send                  send
//	takeover    -             begin: Opening  -             -                     -
//	first       -             begin: Opening  -             -                     -
//	SYN-ACK     -             -               Opened: Open  .                     .
//	old ACK     -             -               ask           .                     .
//	FIN         -             -               .             Shut: Shut            .
//	last FIN    -             -               -             Shut, Finished: Over  -
//	last ACK    -             -               -             .                     Finished: Over
//	RST         -             -               Failed: Over  Reset: Over           Reset: Over
//	silence     -             -               Failed: Over  Failed: Over          Failed: Over
//	Taken       -             -               Failed: Over  .                     .
//
// "takeover" is a Poll of a Stream that has been queued for too long: the Streams before it are
// ended. "first" is the end of the last Stream before it. "old ACK" is an ACK that belongs to an
// old connection at the target (RFC 5961 section 4): the intercepts are asked whose that is
// (Queries). They are also asked (Seeks) before a SYN is repeated, and before the first SYN of a
// Stream that was queued, that begins a second or more after its client, or whose client's
// connection was found under way. "last FIN" and "last ACK" end a connection of which everything
// else was sent and acknowledged; the session is told at the Poll that follows. It is not told of
// the target's end (Shut, Finished) while a confirmation of the intercepts is missing, since that
// precedes the answers that they have found by then. "silence" is a time-out, of the attempt to
// connect or of data that the target does not acknowledge. "Taken" is the intercepts' word that the
// tuple is another copier's.
//
// # Our own direction
//
// CloseWrite is passed to the connection at once, unless the Stream is queued, or bytes are held
// back until the intercepts confirm what they were told:
//
//	event             unended    endWanted  ended
//	CloseWrite, held  endWanted  -          -
//	CloseWrite        ended      -          -
//	begin             .          ended      -
//	confirmed         .          ended      -
//
// # States of the reading of answers
//
// The intercepts can read what the target sends as answers of a protocol. They are not on the path
// of the requests. So bytes whose answer cannot be read without knowing of the request are held
// back until all intercepts have confirmed that they know. The reading is in one of these states:
//
//	Off      no protocol is known, and the intercepts keep nothing
//	Kept     no protocol is known; the intercepts keep what the target says first
//	Wanted   a protocol is known, but the Stream has not begun
//	Asked    the intercepts were told to read, without the target's first sequence number
//	Based    they were told that as well
//	Whole    one of them has the connection from its beginning, and others have yet to confirm
//	Settled  they read the answers
//	Lost     the answers cannot be read; the session does not know yet
//	Told     the session knows
//
// The table names the state that follows. Where the target's first sequence number is known, Based
// follows instead of Asked.
//
//	event          Off     Kept   Wanted  Asked    Based    Whole    Settled  Lost  Told
//	begin          .       -      Asked   -        -        -        -        .     -
//	begin, keeps   Kept    -      Asked   -        -        -        -        .     -
//	begin, nobody  .       -      Lost    -        -        -        -        .     -
//	read           Asked   Asked  -       -        -        -        -        -     -
//	read, queued   Wanted  -      -       -        -        -        -        -     -
//	read, late     Lost    Asked  -       -        -        -        -        -     -
//	read, nobody   Lost    Lost   -       -        -        -        -        -     -
//	Expect         .       .      .       .        .        .        .        .     .
//	confirm        .       .      -       .        .        .        .        .     .
//	confirm whole  .       .      -       Whole    Whole    .        .        .     .
//	all            .       .      -       Settled  Settled  Settled  .        .     .
//	all, SYN-ACK   .       .      -       Based    Settled  Settled  .        Told  .
//	all, data      .       .      -       Based    Told     Settled  .        Told  .
//	lost           .       .      -       Told     Told     Told     Told     .     .
//	no word        .       .      -       Told     Told     Told     Told     Told  .
//	SetReaders     .       Off    .       Lost     Lost     Lost     Lost     .     .
//	Poll           .       .      .       .        .        .        .        Told  .
//
// "read" is ReadAnswers: for a Stream that has begun; for one that has not; when the target has
// spoken already; and when an intercept does not read. "confirm" is the word of one of several
// intercepts, "all" that of the last one: when the target has not answered, when its SYN-ACK has
// come, and when data has come. From Asked, the intercepts are asked again if the SYN-ACK has
// come. "no word" means that confirmations take too long.
package stream

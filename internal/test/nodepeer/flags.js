// The options of a peer: -name value, as those of the Go peers. Times are in milliseconds.
'use strict';

const fs = require('node:fs');

exports.parse = function (defaults) {
  const all = { ...defaults };
  const args = process.argv.slice(2);
  for (let i = 0; i < args.length; i += 2) {
    const name = args[i].replace(/^--?/, '');
    if (!(name in all) || i + 1 === args.length) {
      throw new Error(`option ${args[i]}: wanted one of ${Object.keys(all)}, and its value`);
    }
    all[name] = typeof all[name] === 'number' ? Number(args[i + 1]) : args[i + 1];
  }
  return all;
};

// wait waits so many milliseconds.
exports.wait = (ms) => new Promise((done) => setTimeout(done, ms));

// logger appends a line of JSON for each entry to a file.
exports.logger = (file) => (entry) => fs.appendFileSync(file, JSON.stringify(entry) + '\n');

// fail ends the process because of an error.
exports.fail = (err) => {
  console.error(err);
  process.exit(1);
};

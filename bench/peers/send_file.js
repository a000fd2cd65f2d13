// Express `sendFile`: serves the file BENCH_FILE on every path.
const express = require('express');

const app = express();
app.use((request, response) => response.sendFile(process.env.BENCH_FILE));
app.listen(Number(process.env.BENCH_PORT), '127.0.0.1');

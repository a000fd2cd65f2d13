"""How a response leaves: uvicorn's request cycle with what it lacks, parts of files by sendfile(2), and interim responses."""

@0xd2c16a9f9e0d5c31;

interface Echo {
  say @0 (said :Data) -> (said :Data);
}

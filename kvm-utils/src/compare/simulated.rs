//! Noise that is known, for tests: what a method says of it can be held against the truth.

/// Random numbers that are the same each time (G. Marsaglia's xorshift64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..20 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Between 0 and 1, neither included.
    pub fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Normal, of mean 0 and variance 1 (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Poisson of this mean.
    // tests/compare has this file too, and uses it.
    #[allow(dead_code)]
    pub fn poisson(&mut self, mean: f64) -> u64 {
        if mean > 50.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u64;
        }
        let (least, mut product, mut count) = ((-mean).exp(), self.unit(), 0);
        while product > least {
            product *= self.unit();
            count += 1;
        }
        count
    }
}

/// How the load of a machine goes up and down, in units of its standard deviation.
#[derive(Clone, Copy, Debug)]
pub enum Noise {
    /// Normal, with this correlation between neighbours (AR(1)).
    Correlated(f64),
    /// The mean of the last five of independent normal ones.
    Smoothed,
    /// Either high or low, and stays so for this many intervals on average.
    States(f64),
    /// Now and then very high.
    Bursts,
    /// Has a mean, but hardly a variance: the quotient of two normal ones.
    Wild,
}

impl Noise {
    /// A stretch of it.
    pub fn series(self, random: &mut Random, count: usize) -> Vec<f64> {
        match self {
            Self::Correlated(rho) => {
                let mut value = random.normal();
                let step = |_| {
                    value = rho * value + (1.0 - rho * rho).sqrt() * random.normal();
                    value
                };
                (0..count).map(step).collect()
            }
            Self::Smoothed => {
                let raw: Vec<f64> = (0..count + 4).map(|_| random.normal()).collect();
                raw.windows(5).map(|five| five.iter().sum::<f64>() / 5.0_f64.sqrt()).collect()
            }
            Self::States(stay) => {
                let mut is_high = random.unit() < 0.5;
                let step = |_| {
                    is_high ^= random.unit() < 1.0 / stay;
                    if is_high { 1.0 } else { -1.0 }
                };
                (0..count).map(step).collect()
            }
            Self::Bursts => (0..count).map(|_| if random.unit() < 0.1 { 3.0 } else { -1.0 / 3.0 }).collect(),
            Self::Wild => {
                (0..count).map(|_| (random.normal() / random.normal()).clamp(-20.0, 20.0)).collect()
            }
        }
    }
}
